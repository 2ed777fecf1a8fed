"""`strongroom client-key`."""

from __future__ import annotations

from typing import Annotated

import typer

from strongroom.cli.command import Report, Session, command, facts_report, fields_of
from strongroom.cli.confirmation import Destruction
from strongroom.cli.inputs import Description, Force, Limit, later_of
from strongroom.cli.outputs import SecretOut, require_shown, secret_report
from strongroom.cli.parser import Group
from strongroom.cli.principals import PrincipalName
from strongroom.cli.tables import Table, table

client_keys = typer.Typer(
    name="client-key",
    cls=Group,
    help="Client keys: what clients without a certificate log in with.",
    no_args_is_help=True,
)

ClientKeyName = Annotated[str, typer.Argument(metavar="CLIENT_KEY", help="An id or a full name.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(client_keys)


@command(client_keys, "create", "strongroom client-key create workloads/api --expires 90d --secret-out api.secret")
def create_client_key(
    session: Session,
    principal: PrincipalName,
    description: Description = "",
    expires: Annotated[
        str,
        typer.Option(
            "--expires", "--expire-days", metavar="TIME", help="When it ends: a time, or from now, 1d to 366d."
        ),
    ] = "90d",
    secret_out: SecretOut = None,
    force: Force = False,
) -> Report:
    """Make a client key. Its secret is shown once."""
    require_shown(session, secret_out)
    expire_time = later_of(expires, "--expires", "d")
    made = session.client.access.client_keys.create(principal, description=description, expire_time=expire_time)
    shown = {**fields_of(made.client_key), "secret": made.secret, "event_id": made.event_id}
    return secret_report(shown, "secret", secret_out, force=force)


@command(client_keys, "list", "strongroom client-key list --principal workloads/api")
def list_client_keys(
    session: Session,
    principal: Annotated[str, typer.Option(metavar="PRINCIPAL", help="Only those of this principal.")] = "",
    limit: Limit = None,
) -> Report:
    """List the account's client keys."""
    found = list(session.client.access.client_keys.list(principal, limit=limit))

    def show() -> Table:
        rows = [
            (
                key.name.rpartition("/")[2],
                session.client.names.relative(key.principal),
                "DISABLED" if key.disabled else "ENABLED",
                key.expire_time,
                key.last_use_time,
                key.description,
            )
            for key in found
        ]
        headings = ("client key", "principal", "state", "expires", "last use", "description")
        return table(headings, rows, prose=("description",))

    return Report({"client_keys": found}, show)


@command(client_keys, "describe", "strongroom client-key describe ck-1a2b3c")
def describe_client_key(session: Session, client_key: ClientKeyName) -> Report:
    """Show a client key, without its secret."""
    return facts_report(session.client.access.client_keys.get(client_key))


@command(client_keys, "update", "strongroom client-key update ck-1a2b3c --description 'CI'")
def update_client_key(
    session: Session,
    client_key: ClientKeyName,
    description: Annotated[str, typer.Option(metavar="TEXT", help="For people.")],
) -> Report:
    """Give a client key another description."""
    return facts_report(session.client.access.client_keys.update(client_key, description=description))


@command(client_keys, "disable", "strongroom client-key disable ck-1a2b3c")
def disable_client_key(session: Session, client_key: ClientKeyName) -> Report:
    """Refuse a client key; the sessions that it began stop within one second."""
    return facts_report(session.client.access.client_keys.update(client_key, disabled=True))


@command(client_keys, "enable", "strongroom client-key enable ck-1a2b3c")
def enable_client_key(session: Session, client_key: ClientKeyName) -> Report:
    """End what disable began."""
    return facts_report(session.client.access.client_keys.update(client_key, disabled=False))


@command(
    client_keys,
    "delete",
    "strongroom client-key delete ck-1a2b3c --yes",
    destroys=Destruction("deletes the client key {client_key}; sessions that it began stop"),
)
def delete_client_key(session: Session, client_key: ClientKeyName) -> Report:
    """Delete a client key; the sessions that it began stop within one second."""
    name = session.client.names.client_key(client_key)
    event_id = session.client.access.client_keys.delete(client_key)
    return Report({"name": name, "event_id": event_id}, lambda: f"deleted {session.client.names.relative(name)}")
