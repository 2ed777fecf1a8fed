"""`strongroom account`."""

from __future__ import annotations

from typing import Annotated

import typer

from strongroom.cli.command import Report, Session, command, facts_report, fields_of
from strongroom.cli.confirmation import Destruction
from strongroom.cli.inputs import AllTags, Force, Limit, NoTags, Tags, all_tags_of, pairs_of
from strongroom.cli.outputs import SecretOut, require_shown, secret_report
from strongroom.cli.parser import Group
from strongroom.cli.tables import Table, table
from strongroom.errors import StrongroomError

accounts = typer.Typer(name="account", cls=Group, help="Accounts: the tenants of the mesh.", no_args_is_help=True)

AccountName = Annotated[str, typer.Argument(metavar="ACCOUNT", help="An id or a full name; your own by default.")]
OtherAccount = Annotated[str, typer.Argument(metavar="ACCOUNT", help="An id or a full name.", show_default=False)]
DisplayName = Annotated[str, typer.Option(metavar="TEXT", help="For people.", show_default=False)]


GiveSpiffeIds = Annotated[
    list[str] | None,
    typer.Option(
        "--give-spiffe-id",
        metavar="SPIFFE_ID",
        help="What its principals may be known by: a SPIFFE id, or all below one that ends with /; may be repeated.",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(accounts)


@command(accounts, "create", "strongroom account create shop --display-name 'The shop' --secret-out admin.secret")
def create_account(
    session: Session,
    account_id: Annotated[str, typer.Argument(metavar="ID", help="Its id.", show_default=False)],
    display_name: DisplayName = "",
    tag: Tags = None,
    administrator: Annotated[str, typer.Option(metavar="ID", help="The user that administers it.")] = "admin",
    spiffe_id: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPIFFE_ID", help="What the administrator is known by; may be repeated. Else a client key is made."
        ),
    ] = None,
    give_spiffe_id: GiveSpiffeIds = None,
    secret_out: SecretOut = None,
    force: Force = False,
) -> Report:
    """Make an account with its administrator, for administrators of the mesh."""
    if not spiffe_id:
        require_shown(session, secret_out)
    made = session.client.access.accounts.create(
        account_id,
        display_name=display_name,
        tags=pairs_of(tag, "--tag"),
        administrator_id=administrator,
        administrator_spiffe_ids=spiffe_id or (),
        spiffe_id_prefixes=give_spiffe_id or (),
    )
    shown = {
        **fields_of(made.account),
        "administrator": made.administrator,
        "client_key": made.client_key,
        "client_key_secret": made.client_key_secret,
        "event_id": made.event_id,
    }
    if spiffe_id:
        return facts_report(shown)
    if not made.client_key_secret:
        raise StrongroomError(
            "SECRET_SHOWN",
            f"{made.account.name} was made, but nobody can log in to it: the answer with the secret of its first "
            "client key was lost; create another account",
            code="ALREADY_EXISTS",
            event_id=made.event_id,
        )
    return secret_report(shown, "client_key_secret", secret_out, force=force)


@command(accounts, "list", "strongroom account list --filter 'id_prefix = shop'")
def list_accounts(
    session: Session,
    filter: Annotated[  # noqa: A002  # the option's name
        str, typer.Option("--filter", metavar="FILTER", help="Such as: id_prefix = shop")
    ] = "",
    limit: Limit = None,
) -> Report:
    """List the accounts of the mesh."""
    found = list(session.client.access.accounts.list(filter, limit=limit))

    def show() -> Table:
        rows = [
            (account.name, "DISABLED" if account.disabled else "ENABLED", account.create_time, account.display_name)
            for account in found
        ]
        return table(("account", "state", "created", "display name"), rows, prose=("display name",))

    return Report({"accounts": found}, show)


@command(accounts, "describe", "strongroom account describe")
def describe_account(session: Session, account: AccountName = "") -> Report:
    """Show an account."""
    return facts_report(session.client.access.accounts.get(account))


@command(
    accounts,
    "update",
    "strongroom account update --display-name 'Payments' --tag stage=live",
    destroys=(
        Destruction("takes every tag of the account away", lambda options: bool(options["no_tags"])),
        Destruction(
            "takes back every SPIFFE id that the account was given: what its principals are known by",
            lambda options: bool(options["no_spiffe_ids"]),
        ),
    ),
)
def update_account(
    session: Session,
    account: AccountName = "",
    display_name: Annotated[str | None, typer.Option(metavar="TEXT", help="For people.")] = None,
    tag: AllTags = None,
    no_tags: NoTags = False,
    give_spiffe_id: GiveSpiffeIds = None,
    no_spiffe_ids: Annotated[
        bool, typer.Option("--no-spiffe-ids", help="Take back every SPIFFE id that the account was given.")
    ] = False,
) -> Report:
    """Change an account's display name, all of its tags, or all SPIFFE ids that its principals may be known by."""
    changed = session.client.access.accounts.update(
        account,
        display_name=display_name,
        tags=all_tags_of(tag, none=no_tags),
        spiffe_id_prefixes=() if no_spiffe_ids else give_spiffe_id,
    )
    return facts_report(changed)


@command(accounts, "disable", "strongroom account disable shop")
def disable_account(session: Session, account: OtherAccount) -> Report:
    """Refuse everything in an account, within one second."""
    return facts_report(session.client.access.accounts.disable(account))


@command(accounts, "enable", "strongroom account enable shop")
def enable_account(session: Session, account: OtherAccount) -> Report:
    """End what disable began."""
    return facts_report(session.client.access.accounts.enable(account))
