"""`strongroom trace`: what one request did, in every service, from the spans in the profile's directory."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strongroom.cli.command import Report, Session, command
from strongroom.errors import StrongroomError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.tree import Tree

_ID_DIGITS = 32
_OWN_FILE = "strongroom-cli.jsonl"


@dataclass(frozen=True, slots=True)
class Span:
    """One finished span. `parent_id` is empty at the root; `status` is such as OK, UNSET or ERROR."""

    name: str
    service: str
    trace_id: str
    span_id: str
    parent_id: str
    start: datetime
    end: datetime
    status: str
    attributes: dict[str, Any]

    @property
    def milliseconds(self) -> float:
        """How long it took."""
        return (self.end - self.start).total_seconds() * 1000


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "trace", "strongroom trace")(trace)


def trace(
    session: Session,
    trace_id: Annotated[str, typer.Argument(metavar="ID", help="32 hex digits; by default the last command's.")] = "",
) -> Report:
    """Draw what one request did, in every service."""
    directory = session.profile.trace_directory
    if directory is None:
        raise StrongroomError(
            "FIELD_REQUIRED", f"profile {session.profile.name} has no trace_directory", field="trace_directory"
        )
    wanted = trace_id.lower().removeprefix("0x") or last_trace_id(directory)
    if len(wanted) != _ID_DIGITS:
        raise typer.BadParameter(f"'{trace_id}' is not {_ID_DIGITS} hex digits", param_hint="ID")
    spans = read_spans(directory, wanted)
    if not spans:
        raise StrongroomError("TRACE_NOT_FOUND", f"no span of trace {wanted} is in {directory}", code="NOT_FOUND")
    data = {
        "spans": [
            {
                "name": span.name,
                "service": span.service,
                "span_id": span.span_id,
                "parent_id": span.parent_id,
                "start_time": span.start,
                "milliseconds": round(span.milliseconds, 3),
                "status": span.status,
                "attributes": span.attributes,
            }
            for span in spans
        ],
        "trace": wanted,
    }
    return Report(data, lambda: _drawn(spans))


def read_spans(directory: Path, trace_id: str) -> list[Span]:
    """The trace's spans by start time, from every `*.jsonl` in the directory; lines that are no spans are
    passed over.

    Raises OSError where the directory cannot be read.
    """
    spans = {}
    for path in sorted(directory.iterdir()):
        if path.suffix == ".jsonl":
            with path.open(errors="replace") as lines:
                # Looking for the id first leaves few lines to parse in a long file.
                for span in _parsed(line for line in lines if trace_id in line):
                    if span.trace_id == trace_id:
                        spans[span.span_id] = span
    return sorted(spans.values(), key=lambda span: span.start)


def last_trace_id(directory: Path) -> str:
    """The trace of the last command that made calls. Raises TRACE_NOT_FOUND."""
    path = directory / _OWN_FILE
    if path.exists():
        with path.open(errors="replace") as lines:
            for span in _parsed(reversed(list(lines))):
                return span.trace_id
    raise StrongroomError("TRACE_NOT_FOUND", "no command was traced yet; give a trace id", code="NOT_FOUND")


def _parsed(lines: Iterable[str]) -> Iterable[Span]:
    for line in lines:
        try:
            document = json.loads(line)
            yield Span(
                name=document["name"],
                service=str(document["resource"]["attributes"]["service.name"]),
                trace_id=_hex(document["context"]["trace_id"]),
                span_id=_hex(document["context"]["span_id"]),
                parent_id=_hex(document["parent_id"] or ""),
                start=datetime.fromisoformat(document["start_time"]),
                end=datetime.fromisoformat(document["end_time"]),
                status=document["status"]["status_code"],
                attributes=document["attributes"],
            )
        except (ValueError, KeyError, TypeError):
            continue


def _hex(text: str) -> str:
    return text.removeprefix("0x")


def _drawn(spans: list[Span]) -> RenderableType:
    from rich.tree import Tree

    begin = spans[0].start
    known = {span.span_id for span in spans}
    root = Tree(f"trace {spans[0].trace_id}", guide_style="dim")

    def add(below: Tree, children: list[Span]) -> None:
        for span in children:
            line = below.add(_line(span, begin))
            add(line, [child for child in spans if child.parent_id == span.span_id])

    # A span whose parent was not written down stands at the root.
    add(root, [span for span in spans if span.parent_id not in known])
    return root


def _line(span: Span, begin: datetime) -> RenderableType:
    from rich.text import Text

    line = Text()
    line.append(span.service.removeprefix("strongroom-"), "bold cyan")
    line.append(f"  {span.name.removeprefix('strongroom.')}", "red" if span.status == "ERROR" else "")
    line.append(f"  {span.milliseconds:.2f} ms")
    line.append(f"  at {(span.start - begin).total_seconds() * 1000:.2f} ms", "dim")
    outcome = span.attributes.get("rpc.outcome", "OK")
    if outcome != "OK":
        line.append(f"  {outcome}", "red")
    return line
