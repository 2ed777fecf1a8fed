"""`strongroom account`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli.command import Report, Session, command, facts_report
from strongroom.cli.inputs import pairs_of
from strongroom.cli.keys import Limit
from strongroom.cli.plain import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

accounts = typer.Typer(name="account", help="Accounts: the tenants of the mesh.", no_args_is_help=True)

AccountName = Annotated[str, typer.Argument(metavar="ACCOUNT", help="An id or a full name; your own by default.")]
OtherAccount = Annotated[str, typer.Argument(metavar="ACCOUNT", help="An id or a full name.", show_default=False)]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="May be repeated.")]


@command(accounts, "create")
def create_account(
    session: Session,
    account_id: Annotated[str, typer.Argument(metavar="ID", help="Its id.", show_default=False)],
    display_name: Annotated[str, typer.Option(help="For people.")] = "",
    tag: Tags = None,
    administrator: Annotated[str, typer.Option(metavar="ID", help="The user that administers it.")] = "admin",
    spiffe_id: Annotated[
        list[str] | None, typer.Option(help="What the administrator is known by; may be repeated. Else a client key.")
    ] = None,
) -> Report:
    """Make an account with its administrator, for administrators of the mesh."""
    made = session.client.access.accounts.create(
        account_id,
        display_name=display_name,
        tags=pairs_of(tag, "--tag"),
        administrator_id=administrator,
        administrator_spiffe_ids=spiffe_id or (),
    )
    shown = {
        **plain(made.account),
        "administrator": made.administrator,
        "client_key": made.client_key,
        "client_key_secret": made.client_key_secret,
        "event_id": made.event_id,
    }
    note = "the client key's secret is not shown again" if made.client_key_secret else ""
    return facts_report(shown, note=note)


@command(accounts, "list")
def list_accounts(
    session: Session,
    filter: Annotated[str, typer.Option(help="Such as: id_prefix = shop")] = "",  # noqa: A002
    limit: Limit = None,
) -> Report:
    """List the accounts of the mesh."""
    found = list(session.client.access.accounts.list(filter, limit=limit))

    def show() -> RenderableType:
        from strongroom.cli.show import table

        rows = [
            (account.name, "DISABLED" if account.disabled else "", account.create_time, account.display_name)
            for account in found
        ]
        return table(("account", "state", "created", "display name"), rows)

    return Report({"accounts": found}, show)


@command(accounts, "describe")
def describe_account(session: Session, account: AccountName = "") -> Report:
    """Show an account."""
    return facts_report(plain(session.client.access.accounts.get(account)))


@command(accounts, "update")
def update_account(
    session: Session,
    account: AccountName = "",
    display_name: Annotated[str | None, typer.Option(help="For people.")] = None,
    tag: Tags = None,
) -> Report:
    """Change an account's display name, or all of its tags."""
    tags = pairs_of(tag, "--tag") if tag is not None else None
    return facts_report(plain(session.client.access.accounts.update(account, display_name=display_name, tags=tags)))


@command(accounts, "disable")
def disable_account(session: Session, account: OtherAccount) -> Report:
    """Refuse everything in an account, within one second."""
    return facts_report(plain(session.client.access.accounts.disable(account)))


@command(accounts, "enable")
def enable_account(session: Session, account: OtherAccount) -> Report:
    """End what disable began."""
    return facts_report(plain(session.client.access.accounts.enable(account)))
