"""`strongroom audit`: events, listed and followed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strongroom.bounded import read_text
from strongroom.cli.audit_filters import (
    Action,
    Outcome,
    Principal,
    Resource,
    Since,
    Text,
    TraceId,
    Until,
    Version,
)
from strongroom.cli.command import Report, Session, command
from strongroom.cli.inputs import moment_of
from strongroom.cli.plain import plain
from strongroom.cli.terminal import write_line
from strongroom.errors import StrongroomError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from strongroom.calls.audit.events import Event, StreamedEvent

app = typer.Typer(name="audit", help="The audit log.", no_args_is_help=True)

# What ends a stream and says nothing against going on.
_PASSING = frozenset({"SHUTTING_DOWN", "UNREACHABLE", "UNAVAILABLE", "OVERLOADED", "KEYSTORE_STALE", "UNKNOWN"})
_AGAIN_SECONDS = 1.0


@command(app, "events")
def events(
    session: Session,
    limit: Annotated[int, typer.Option(min=1, help="Most events to list.")] = 50,
    since: Since = "",
    until: Until = "",
    action: Action = "",
    principal: Principal = "",
    resource: Resource = "",
    outcome: Outcome = "",
    trace_id: TraceId = "",
    version: Version = "",
    text: Text = "",
    archive: Annotated[bool, typer.Option("--archive", help="Look into the archive too; slower.")] = False,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="In place of the newest.")] = False,
    wide: Annotated[bool, typer.Option("--wide", help="With the year, encryption contexts and event ids.")] = False,
) -> Report:
    """List the account's events, newest first."""
    found = list(
        session.client.audit.events.list(
            since=moment_of(since, "--since") if since else None,
            until=moment_of(until, "--until") if until else None,
            action=action,
            principal=principal,
            resource=resource,
            outcome=outcome,
            trace_id=trace_id,
            resource_version=version,
            text=text,
            archive=archive,
            oldest_first=oldest_first,
            limit=limit,
        )
    )
    return Report({"events": found}, lambda: _table(session, found, wide=wide))


@command(app, "tail")
def tail(
    session: Session,
    since: Since = "",
    action: Action = "",
    principal: Principal = "",
    resource: Resource = "",
    outcome: Outcome = "",
    text: Text = "",
    state: Annotated[
        Path | None, typer.Option("--state", metavar="FILE", help="Keeps the place here, and goes on from it.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="End after so many events; 0: never.")] = 0,
) -> Report:
    """Follow the account's events as they come, until Ctrl-C. Each is printed once, also when audit restarts meanwhile;
    with --state also when this command does.
    """
    start = moment_of(since, "--since") if since else None
    token = read_text(state).strip() if state and state.exists() else ""
    conditions = {"action": action, "principal": principal, "resource": resource, "outcome": outcome, "text": text}
    left = limit
    try:
        for found in _followed(session, token, {"since": start, **conditions}):
            write_line(_line(session, found.event))
            if state:
                _keep(state, found.resume_token)
            left -= 1
            if left == 0:
                break
    except KeyboardInterrupt:
        pass
    return Report({}, silent=True)


def _followed(session: Session, token: str, conditions: dict[str, Any]) -> Iterator[StreamedEvent]:
    while True:
        try:
            for found in session.client.audit.events.stream(resume_token=token, **conditions):
                token = found.resume_token
                yield found
        except StrongroomError as error:
            if error.reason not in _PASSING:
                raise
        if not token and conditions["since"] is None:
            # From now on, whatever comes while there is no connection.
            from datetime import UTC, datetime

            conditions = {**conditions, "since": datetime.now(UTC)}
        time.sleep(_AGAIN_SECONDS)


def _keep(path: Path, token: str) -> None:
    from strongroom.cli.inputs import write_bytes

    write_bytes(path, token.encode() + b"\n", force=True)


def _line(session: Session, event: Event) -> str:
    if session.as_json:
        return json.dumps(plain(event))
    relative = session.client.names.relative
    when = event.time.strftime("%m-%d %H:%M:%S") if event.time else ""
    parts = (when, relative(event.principal), event.action, relative(event.resource), event.outcome, event.reason)
    return "  ".join(part for part in parts if part)


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
