"""Reports of use: an account's events of a period, counted by what is asked for."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from services.audit.reading.events import Events, Period, Query, Unread
from services.runtime.errors import Reason, StrongroomError
from strongroom.audit.v1.audit_service_pb2 import UsageDimension
from strongroom.audit.v1.event_pb2 import Event, Outcome

MAX_ROWS = 100_000
DEFAULT_DIMENSIONS = (
    UsageDimension.USAGE_DIMENSION_RESOURCE,
    UsageDimension.USAGE_DIMENSION_PRINCIPAL,
    UsageDimension.USAGE_DIMENSION_OUTCOME,
)

_KEPT_REPORTS = 4
_KEPT_SECONDS = 120.0


@dataclass(slots=True)
class Row:
    """Uses that have the same values. Times in microseconds since the Unix epoch."""

    values: tuple[str, ...]
    event_count: int = 0
    item_count: int = 0
    first_us: int = 1 << 62
    last_us: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """Rows by their values, and what is in the log and in none of them."""

    rows: list[Row]
    unread: Unread


_VALUES: dict[UsageDimension.ValueType, Callable[[Event], str]] = {
    UsageDimension.USAGE_DIMENSION_RESOURCE: lambda event: event.resource,
    UsageDimension.USAGE_DIMENSION_PRINCIPAL: lambda event: event.principal,
    UsageDimension.USAGE_DIMENSION_ACTION: lambda event: event.action,
    UsageDimension.USAGE_DIMENSION_OUTCOME: lambda event: Outcome.Name(event.outcome).removeprefix("OUTCOME_"),
    UsageDimension.USAGE_DIMENSION_VERSION: lambda event: event.key_version or event.secret_version,
    UsageDimension.USAGE_DIMENSION_HOUR: lambda event: _moment(event, "%Y-%m-%dT%H:00:00Z"),
    UsageDimension.USAGE_DIMENSION_DAY: lambda event: _moment(event, "%Y-%m-%dT00:00:00Z"),
}

DIMENSIONS = frozenset(_VALUES)


def counted(events: Events, query: Query, period: Period, dimensions: Sequence[UsageDimension.ValueType]) -> Report:
    """A report. Raises LIMIT_EXCEEDED when there are too many rows."""
    unread = Unread()
    values_of = [_VALUES[dimension] for dimension in dimensions]
    rows: dict[tuple[str, ...], Row] = {}
    for event in events.in_period(query, period, unread):
        values = tuple(value_of(event) for value_of in values_of)
        row = rows.get(values)
        if row is None:
            if len(rows) == MAX_ROWS:
                raise StrongroomError(
                    Reason.LIMIT_EXCEEDED,
                    f"the report has more than {MAX_ROWS} rows: ask for less",
                    limit=str(MAX_ROWS),
                )
            row = rows[values] = Row(values)
        time_us = event.time.seconds * 1_000_000 + event.time.nanos // 1000
        row.event_count += 1
        row.item_count += event.item_count
        row.first_us = min(row.first_us, time_us)
        row.last_us = max(row.last_us, time_us)
    return Report(sorted(rows.values(), key=lambda row: row.values), unread)


class Reports:
    """Reports of the last minutes, so that the further pages of one are of the same moment and cost nothing."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, Report]] = OrderedDict()

    def get(self, asked: str, count: Callable[[], Report], *, anew: bool) -> Report:
        """The report that `asked` describes: counted `anew`, or as it is kept."""
        with self._lock:
            counted_at, report = self._kept.get(asked, (0.0, None))
        if anew or report is None or self._monotonic() - counted_at > _KEPT_SECONDS:
            report = count()
            with self._lock:
                self._kept[asked] = (self._monotonic(), report)
                self._kept.move_to_end(asked)
                while len(self._kept) > _KEPT_REPORTS:
                    self._kept.popitem(last=False)
        return report


def _moment(event: Event, form: str) -> str:
    return datetime.fromtimestamp(event.time.seconds, UTC).strftime(form)
