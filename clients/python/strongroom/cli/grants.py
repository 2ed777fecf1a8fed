"""`strongroom grant`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli import choices
from strongroom.cli.command import Report, Session, command, facts_report
from strongroom.cli.confirmation import Destruction
from strongroom.cli.inputs import Description, KeyName, Limit, later_of, pairs_of
from strongroom.cli.parser import Group
from strongroom.cli.tables import Table, table

if TYPE_CHECKING:
    from strongroom.calls.access.grants import Grant

app = typer.Typer(name="grant", cls=Group, help="Operations on a key, delegated to a principal.", no_args_is_help=True)

GrantName = Annotated[str, typer.Argument(metavar="GRANT", help="An id or a full name.", show_default=False)]
_PRINCIPAL = "users/ID, workloads/ID, roles/ID, or a full name, of any account."
_Pairs = list[str] | None


def add_to(app_of_all: typer.Typer) -> None:
    """Adds the commands."""
    app_of_all.add_typer(app)


@command(
    app, "create", "strongroom grant create payments --grantee workloads/api --operation crypto:Decrypt --expires 8h"
)
def create_grant(
    session: Session,
    key: KeyName,
    grantee: Annotated[str, typer.Option(metavar="PRINCIPAL", help=_PRINCIPAL)],
    operation: Annotated[list[str], choices.an_action("Such as crypto:Decrypt; may be repeated.", "--operation")],
    context_equals: Annotated[_Pairs, typer.Option(metavar="NAME=VALUE", help="The whole encryption context.")] = None,
    context_contains: Annotated[_Pairs, typer.Option(metavar="NAME=VALUE", help="Pairs that it has to have.")] = None,
    retiring_principal: Annotated[str, typer.Option(metavar="PRINCIPAL", help="Who else may retire it.")] = "",
    expires: Annotated[str, typer.Option(metavar="TIME", help="A time, or how long from now: 8h, 30d.")] = "",
    description: Description = "",
) -> Report:
    """Let a principal do some operations with a key."""
    grant = session.client.access.grants.create(
        key,
        grantee,
        operation,
        context_equals=pairs_of(context_equals, "--context-equals") if context_equals else None,
        context_contains=pairs_of(context_contains, "--context-contains") if context_contains else None,
        retiring_principal=retiring_principal,
        expire_time=later_of(expires, "--expires") if expires else None,
        description=description,
    )
    return facts_report(grant)


@command(app, "list", "strongroom grant list --key payments")
def list_grants(
    session: Session,
    key: Annotated[str, typer.Option(metavar="KEY", help="On this key alone.")] = "",
    grantee: Annotated[str, typer.Option(metavar="PRINCIPAL", help="To this principal alone.")] = "",
    retiring_principal: Annotated[str, typer.Option(metavar="PRINCIPAL", help="Those that it may retire.")] = "",
    any_account: Annotated[bool, typer.Option("--any-account", help="On keys of other accounts too.")] = False,
    limit: Limit = None,
) -> Report:
    """List grants by key, by grantee, or both."""
    found = list(
        session.client.access.grants.list(
            key=key, grantee=grantee, retiring_principal=retiring_principal, any_account=any_account, limit=limit
        )
    )
    return Report({"grants": found}, lambda: _table(session, found))


@command(app, "describe", "strongroom grant describe g-1a2b3c")
def describe_grant(session: Session, grant: GrantName) -> Report:
    """Show a grant."""
    return facts_report(session.client.access.grants.get(grant))


@command(
    app,
    "revoke",
    "strongroom grant revoke g-1a2b3c --yes",
    destroys=Destruction("ends the grant {grant} for good: another one has to be made"),
)
def revoke_grant(session: Session, grant: GrantName) -> Report:
    """End a grant on one of the account's keys for good, within one second."""
    return _ended(session, grant, session.client.access.grants.revoke(grant), "revoked")


@command(
    app,
    "retire",
    "strongroom grant retire g-1a2b3c --yes",
    destroys=Destruction("ends the grant {grant} for good: whoever made it has to make another one"),
)
def retire_grant(session: Session, grant: GrantName) -> Report:
    """End a grant that serves you, for good."""
    return _ended(session, grant, session.client.access.grants.retire(grant), "retired")


def _ended(session: Session, grant: str, event_id: str, how: str) -> Report:
    name = session.client.names.grant(grant)
    return Report({"name": name, "event_id": event_id}, lambda: f"{how} {session.client.names.relative(name)}")


def _table(session: Session, found: list[Grant]) -> Table:
    relative = session.client.names.relative
    rows = [
        (
            relative(grant.name),
            relative(grant.key),
            relative(grant.grantee),
            ", ".join(grant.operations),
            grant.context_equals or grant.context_contains or "",
            grant.expire_time,
        )
        for grant in found
    ]
    return table(("grant", "key", "grantee", "operations", "context", "expires"), rows)
