"""`strongroom audit export`: the log as tiles, events as lines of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli import choices
from strongroom.cli.audit_filters import Action, Outcome, Principal, Resource, Since, Until
from strongroom.cli.audit_logs import LogName
from strongroom.cli.command import Report, Session, command, facts_report
from strongroom.cli.inputs import Force, moment_of
from strongroom.cli.plain import plain
from strongroom.cli.recorded import resource_of

if TYPE_CHECKING:
    from strongroom.calls.audit.events import Event

KEYS_FILE = "keys"

_TILES = "tiles"


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    command(
        app,
        "export",
        "strongroom audit export log",
        "strongroom audit export --format jsonl --since 30d - | gzip > events.gz",
    )(export)


def export(
    session: Session,
    to: Annotated[
        Path, typer.Argument(metavar="PATH", help="A folder for tiles, else a new file; - for standard output.")
    ],
    form: Annotated[str, choices.one_of(choices.EXPORT_FORMATS, "What is written", "FORMAT", "--format")] = _TILES,
    log: LogName = "",
    since: Since = "",
    until: Until = "",
    action: Action = "",
    principal: Principal = "",
    resource: Resource = "",
    outcome: Outcome = "",
    force: Force = False,
) -> Report:
    """Copy the log or its events out.

    tiles: the whole log, sealed as it is, in a folder that `verify` takes; a later export brings it up to date. jsonl:
    the events that the options choose, oldest first, a JSON object each. ocsf: the same as OCSF API Activity, for a
    SIEM.
    """
    if form == _TILES:
        return _export_tiles(session, to, log)
    found = session.client.audit.events.list(
        since=moment_of(since, "--since") if since else None,
        until=moment_of(until, "--until") if until else None,
        action=action,
        principal=principal,
        resource=resource_of(session, resource),
        outcome=outcome,
        archive=True,
        oldest_first=True,
    )
    lines = _lines(found, form)
    if str(to) == "-":
        for line in lines:
            sys.stdout.write(line)
        return Report({}, silent=True)
    count = _write(to, lines, force=force)
    return Report({"events": count, "file": to}, note=f"{count} events in {to}")


def _export_tiles(session: Session, to: Path, log: str) -> Report:
    from strongroom.atomic import write_own
    from strongroom.cli.show import progress
    from strongroom.tlog.tiles import tiles_between
    from strongroom.tlog.verification import CHECKPOINT

    client = session.client
    newest = client.audit.logs.get_checkpoint(log)
    to.mkdir(parents=True, exist_ok=True)
    paths = [path for path in tiles_between(0, newest.tree_size) if not (to / str(path)).exists()]
    with progress("copying", quiet=session.quiet) as tell:
        for number, path in enumerate(paths, 1):
            file = to / str(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_own(file, client.audit.logs.get_tile(str(path), newest.log))
            tell(number, len(paths))
    keys = "".join(f"{key.verifier_key}\n" for key in client.audit.logs.get(newest.log).keys)
    write_own(to / KEYS_FILE, keys.encode())
    # Last: whoever finds it finds its tiles.
    write_own(to / CHECKPOINT, newest.note)
    return facts_report({"log": newest.log, "size": newest.tree_size, "new_tiles": len(paths), "folder": to})


def _lines(events: Iterator[Event], form: str) -> Iterator[str]:
    from strongroom.ocsf import api_activity

    for event in events:
        yield json.dumps(api_activity(event) if form == "ocsf" else plain(event)) + "\n"


def _write(path: Path, lines: Iterator[str], *, force: bool) -> int:
    from strongroom.atomic import replacing

    count = 0
    with replacing(path, overwrite=force) as file:
        for line in lines:
            file.write(line.encode())
            count += 1
    return count
