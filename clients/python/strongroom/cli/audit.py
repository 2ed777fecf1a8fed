"""`strongroom audit`: events, listed and followed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strongroom.atomic import check_destination, write_own
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
from strongroom.cli.forms import warn
from strongroom.cli.inputs import moment_of, read_text
from strongroom.cli.parser import Group
from strongroom.cli.recorded import resource_of, version_of
from strongroom.cli.tables import Table, table, time_text
from strongroom.errors import StrongroomError
from strongroom.streams import heals, pause_after

if TYPE_CHECKING:
    from strongroom.calls.audit.events import Event, StreamedEvent

app = typer.Typer(name="audit", cls=Group, help="The audit log.", no_args_is_help=True)

# What is over in a moment, so that also the first stream waits for it. Other reasons may mean, before there was an
# answer, that there is none at this address, or never.
_SOON_OVER = frozenset({"SHUTTING_DOWN", "OVERLOADED", "KEYSTORE_STALE"})
# What gRPC makes of a connection that broke in the middle of an answer.
_BROKEN = "UNKNOWN"
_AGAIN_SECONDS = 1.0


def add_to(app_of_all: typer.Typer) -> None:
    """Adds the commands."""
    from strongroom.cli import audit_export, audit_logs, audit_report, audit_retention, audit_witness

    for subject in (audit_logs, audit_export, audit_report, audit_retention, audit_witness):
        subject.add_to(app)
    app_of_all.add_typer(app)


@command(
    app,
    "events",
    "strongroom audit events --resource keys/payments --since 7d",
    "strongroom audit events --principal users/ann --outcome DENIED --wide",
)
def events(
    session: Session,
    limit: Annotated[int, typer.Option(metavar="COUNT", min=1, max=1_000_000, help="Most events to list.")] = 50,
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
) -> Report:
    """List the account's events, newest first; in a pipe and with `--wide`, their encryption contexts and ids too."""
    conditions: dict[str, Any] = {
        "since": moment_of(since, "--since") if since else None,
        "until": moment_of(until, "--until") if until else None,
        "action": action,
        "principal": principal,
        "resource": resource_of(session, resource),
        "outcome": outcome,
        "trace_id": trace_id,
        "resource_version": version_of(session, version),
        "text": text,
    }
    found = list(
        session.client.audit.events.list(**conditions, archive=archive, oldest_first=oldest_first, limit=limit)
    )
    is_all = archive or len(found) == limit or not (since or until or not found)
    if is_all or not _has_older(session, found, conditions):
        return Report({"events": found}, lambda: _table(session, found))
    note = "there are older events in the archive: --archive lists them too"
    return Report({"events": found, "older_in_archive": True}, lambda: _table(session, found), note=note)


@command(app, "tail", "strongroom audit tail --action crypto:Decrypt --state tail.state")
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
    limit: Annotated[
        int, typer.Option(metavar="COUNT", min=0, max=1_000_000, help="End after so many events; 0: never.")
    ] = 0,
) -> Report:
    """Follow the account's events as they come, until Ctrl-C. Each is printed once, also when audit restarts meanwhile;
    with --state also when this command does.
    """
    start = moment_of(since, "--since") if since else None
    if state:
        check_destination(state, overwrite=True, asked=False)
    token = read_text(state).strip() if state and state.exists() else ""
    conditions = {
        "action": action,
        "principal": principal,
        "resource": resource_of(session, resource),
        "outcome": outcome,
        "text": text,
    }
    left = limit
    try:
        for found in _followed(session, token, {"since": start, **conditions}):
            session.say(found.event, _line(session, found.event))
            if state:
                _keep(state, found.resume_token)
            left -= 1
            if left == 0:
                break
    except KeyboardInterrupt:
        pass
    return Report({}, silent=True)


def _has_older(session: Session, found: list[Event], conditions: dict[str, Any]) -> bool:
    """Whether the archive has events of the kind that were found, or of which none was."""
    try:
        oldest = list(session.client.audit.events.list(**conditions, archive=True, oldest_first=True, limit=1))
    except StrongroomError:
        # What was found is the answer all the same.
        return False
    return any(event.id not in {one.id for one in found} for event in oldest)


def _followed(session: Session, token: str, conditions: dict[str, Any]) -> Iterator[StreamedEvent]:
    """Events as they come, over as many streams as that takes. What keeps the first one from an answer is raised; later
    breaks are told once each.
    """
    from datetime import UTC, datetime

    answered, broken = False, False
    begun = datetime.now(UTC)

    def alive() -> None:
        nonlocal answered, broken
        answered, broken = True, False

    while True:
        pause = _AGAIN_SECONDS
        try:
            for found in session.client.audit.events.stream(resume_token=token, alive=alive, **conditions):
                token = found.resume_token
                yield found
        except StrongroomError as error:
            if not (heals(error) or error.reason == _BROKEN) or not (answered or error.reason in _SOON_OVER):
                raise
            if not broken:
                warn(f"{error.message}: this goes on once it is back")
            answered = broken = True
            pause = pause_after(error, _AGAIN_SECONDS)
        if not token and conditions["since"] is None:
            # Whatever comes while there is no connection too.
            conditions = {**conditions, "since": begun}
        time.sleep(pause)


def _keep(path: Path, token: str) -> None:
    write_own(path, token.encode() + b"\n")


def _line(session: Session, event: Event) -> str:
    relative = session.client.names.relative
    when = time_text(event.time, local=sys.stdout.isatty()) if event.time else ""
    shown = "" if sys.stdout.isatty() else event.id
    parts = (
        when,
        relative(event.principal),
        event.action,
        relative(event.resource),
        event.outcome,
        event.reason,
        shown,
    )
    return "  ".join(part for part in parts if part)


def _table(session: Session, found: list[Event]) -> Table:
    relative = session.client.names.relative
    headings = ("time", "principal", "action", "resource", "outcome")
    # Whoever reads a pipe looks for ids, and has the width.
    wide = session.wide or not sys.stdout.isatty()
    rows = [
        (
            event.time,
            relative(event.principal),
            f"{event.action} ({event.item_count} items)" if event.item_count > 1 else event.action,
            relative(event.resource),
            f"{event.outcome} {event.reason}".rstrip(),
            *((event.encryption_context, event.id) if wide else ()),
        )
        for event in found
    ]
    return table((*headings, "context", "event") if wide else headings, rows)
