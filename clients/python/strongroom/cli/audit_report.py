"""`strongroom audit report`: who used what, how often, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli import choices
from strongroom.cli.audit_filters import Action, Outcome, Principal, Resource, Until
from strongroom.cli.command import WRITTEN, Report, Session, command
from strongroom.cli.inputs import STANDARD, Force, moment_of, write_bytes
from strongroom.cli.recorded import resource_of
from strongroom.cli.tables import Table, table

if TYPE_CHECKING:
    from strongroom.calls.audit.usage import UsageReport, UsageRow

_DEFAULT = ("resource", "principal", "outcome")
_HOURLY_UP_TO_DAYS = 3


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    command(
        app,
        "report",
        "strongroom audit report --since 30d --by principal --by outcome",
        "strongroom audit report --resource keys/payments --html report.html",
    )(report)


def report(
    session: Session,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="A time (2026-11-24T02:25Z), or an age such as 2h, 7d.")
    ] = "7d",
    until: Until = "",
    by: Annotated[
        list[str] | None,
        choices.one_of(choices.DIMENSIONS, "What to count by; may be repeated", "DIMENSION", "--by"),
    ] = None,
    action: Action = "",
    principal: Principal = "",
    resource: Resource = "",
    outcome: Outcome = "",
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page with plots, which needs nothing else."),
        WRITTEN,
    ] = None,
    force: Force = False,
) -> Report:
    """Count uses over a period, by resource, principal and outcome, or by what is asked for."""
    start = moment_of(since, "--since")
    end = moment_of(until, "--until") if until else datetime.now(UTC)
    dimensions = by or list(_DEFAULT)
    of = resource_of(session, resource)

    def asked(*names: str) -> UsageReport:
        return session.client.audit.report_usage(
            start, until=end, by=names, action=action, principal=principal, resource=of, outcome=outcome
        )

    found = asked(*dimensions)
    rows = list(found)
    document = {
        "since": start,
        "until": end,
        "by": dimensions,
        "rows": rows,
        "shredded_events": found.shredded_event_count,
        "unreadable_events": found.unreadable_event_count,
    }
    if html is None:
        return Report(document, lambda: _table(session, dimensions, rows), note=_left_out(found))
    page = _page(session, start, end, dimensions, rows, asked)
    if html == STANDARD:
        return Report(document, raw=page.encode(), note=_left_out(found))
    write_bytes(html, page.encode(), force=force)
    note = f"{sum(row.event_count for row in rows)} events in {html}"
    return Report({**document, "file": html}, note="; ".join(filter(None, (note, _left_out(found)))))


def _page(
    session: Session,
    start: datetime,
    end: datetime,
    dimensions: list[str],
    rows: list[UsageRow],
    asked: Callable[..., UsageReport],
) -> str:
    from strongroom.cli.usage_page import Usage, page

    def counted(*names: str) -> list[UsageRow]:
        return list(asked(*names))

    step = "hour" if (end - start).days < _HOURLY_UP_TO_DAYS else "day"
    usage = Usage(
        start, end, step, counted(step, "outcome"), counted("resource", "outcome"), counted("principal", "outcome")
    )
    return page(session.client.names, usage, dimensions, rows)


def _left_out(report: UsageReport) -> str:
    """What is in the log and in no row."""
    parts = []
    if report.shredded_event_count:
        parts.append(f"{report.shredded_event_count:,} events were made unreadable and are not counted")
    if report.unreadable_event_count:
        parts.append(
            f"{report.unreadable_event_count:,} events cannot be read though nobody made them unreadable: audit's "
            "database was tampered with or damaged"
        )
    return "; ".join(parts)


def _table(session: Session, dimensions: list[str], rows: list[UsageRow]) -> Table:
    relative = session.client.names.relative
    headings = (*dimensions, "events", "items", "first", "last")
    return table(
        headings,
        [
            (*map(relative, row.values), f"{row.event_count:,}", f"{row.item_count:,}", row.first_time, row.last_time)
            for row in rows
        ],
    )
