"""`strongroom audit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli.command import Report, Session, command
from strongroom.cli.inputs import moment_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from strongroom.calls.audit import Event

app = typer.Typer(name="audit", help="The audit log.", no_args_is_help=True)

_WHEN = "A time (2026-11-24T02:25Z), or an age such as 15m, 2h, 7d."


@command(app, "events")
def events(
    session: Session,
    limit: Annotated[int, typer.Option(min=1, help="Most events to list.")] = 50,
    since: Annotated[str, typer.Option(metavar="TIME", help=_WHEN)] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="As --since; events before it.")] = "",
    action: Annotated[str, typer.Option(help="Such as crypto:Encrypt.")] = "",
    principal: Annotated[str, typer.Option(help="Who called, by full name.")] = "",
    resource: Annotated[str, typer.Option(help="By full name.")] = "",
    outcome: Annotated[str, typer.Option(help="ALLOWED, DENIED or FAILED.")] = "",
    trace_id: Annotated[str, typer.Option(metavar="ID", help="One trace's events.")] = "",
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="In place of the newest.")] = False,
    wide: Annotated[bool, typer.Option("--wide", help="With the year, encryption contexts and event ids.")] = False,
) -> Report:
    """List the account's events, newest first."""
    found = list(
        session.client.lookup_events(
            since=moment_of(since, "--since") if since else None,
            until=moment_of(until, "--until") if until else None,
            action=action,
            principal=principal,
            resource=resource,
            outcome=outcome,
            trace_id=trace_id,
            oldest_first=oldest_first,
            limit=limit,
        )
    )
    return Report({"events": found}, lambda: _table(session, found, wide=wide))


def _table(session: Session, found: list[Event], *, wide: bool) -> RenderableType:
    from strongroom.cli.show import table

    relative = session.client.names.relative
    headings = ("time", "principal", "action", "resource", "outcome")
    rows = [
        (
            event.time if wide or event.time is None else event.time.strftime("%m-%d %H:%M:%S"),
            relative(event.principal),
            f"{event.action} ({event.item_count} items)" if event.item_count > 1 else event.action,
            relative(event.resource),
            f"{event.outcome} {event.reason}".rstrip(),
            *((event.encryption_context, event.id) if wide else ()),
        )
        for event in found
    ]
    return table((*headings, "context", "event") if wide else headings, rows)
