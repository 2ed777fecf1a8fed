"""`strongroom client-key`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli.command import Report, Session, command, facts_report
from strongroom.cli.inputs import Force, write_bytes
from strongroom.cli.keys import Limit
from strongroom.cli.plain import plain
from strongroom.cli.principals import PrincipalName

if TYPE_CHECKING:
    from rich.console import RenderableType

client_keys = typer.Typer(
    name="client-key", help="Client keys: what clients without a certificate log in with.", no_args_is_help=True
)

ClientKeyName = Annotated[str, typer.Argument(metavar="CLIENT_KEY", help="An id or a full name.", show_default=False)]


@command(client_keys, "create")
def create_client_key(
    session: Session,
    principal: PrincipalName,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    expire_days: Annotated[int, typer.Option(help="Days until it ends: 1 to 366.")] = 90,
    secret_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the secret to a new file (mode 0600), and do not show it."),
    ] = None,
    force: Force = False,
) -> Report:
    """Make a client key. Its secret is shown once."""
    expire_time = datetime.now(UTC) + timedelta(days=expire_days)
    made = session.client.access.client_keys.create(principal, description=description, expire_time=expire_time)
    shown = {**plain(made.client_key), "secret": made.secret, "event_id": made.event_id}
    if secret_out is None:
        return facts_report(shown, note="the secret is not shown again")
    write_bytes(secret_out, made.secret.encode(), force=force)
    return facts_report({**shown, "secret": None, "secret_file": secret_out})


@command(client_keys, "list")
def list_client_keys(
    session: Session,
    principal: Annotated[str, typer.Option(help="Only those of this principal.")] = "",
    limit: Limit = None,
) -> Report:
    """List the account's client keys."""
    found = list(session.client.access.client_keys.list(principal, limit=limit))

    def show() -> RenderableType:
        from strongroom.cli.show import table

        rows = [
            (
                key.name.rpartition("/")[2],
                session.client.names.relative(key.principal),
                "DISABLED" if key.disabled else "",
                key.expire_time,
                key.last_use_time,
                key.description,
            )
            for key in found
        ]
        return table(("client key", "principal", "state", "expires", "last use", "description"), rows)

    return Report({"client_keys": found}, show)


@command(client_keys, "describe")
def describe_client_key(session: Session, client_key: ClientKeyName) -> Report:
    """Show a client key, without its secret."""
    return facts_report(plain(session.client.access.client_keys.get(client_key)))


@command(client_keys, "update")
def update_client_key(
    session: Session, client_key: ClientKeyName, description: Annotated[str, typer.Option(help="For people.")]
) -> Report:
    """Give a client key another description."""
    return facts_report(plain(session.client.access.client_keys.update(client_key, description=description)))


@command(client_keys, "disable")
def disable_client_key(session: Session, client_key: ClientKeyName) -> Report:
    """Refuse a client key; the sessions that it began stop within one second."""
    return facts_report(plain(session.client.access.client_keys.update(client_key, disabled=True)))


@command(client_keys, "enable")
def enable_client_key(session: Session, client_key: ClientKeyName) -> Report:
    """End what disable began."""
    return facts_report(plain(session.client.access.client_keys.update(client_key, disabled=False)))


@command(client_keys, "delete")
def delete_client_key(session: Session, client_key: ClientKeyName) -> Report:
    """Delete a client key; the sessions that it began stop within one second."""
    name = session.client.names.client_key(client_key)
    event_id = session.client.access.client_keys.delete(client_key)
    return Report({"name": name, "event_id": event_id}, lambda: f"deleted {session.client.names.relative(name)}")
