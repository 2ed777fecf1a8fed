"""What keys and secrets were used for, counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from strongroom.audit.v1 import audit_service_pb2 as pb
from strongroom.convert import moment


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Uses that have the same `values`, one for each dimension that was asked for."""

    values: Sequence[str]
    event_count: int
    item_count: int
    first_time: datetime | None
    last_time: datetime | None


class UsageReport(Iterator[UsageRow]):
    """The rows of a report, whose pages are fetched as they are needed."""

    def __init__(self) -> None:
        self.rows: Iterator[UsageRow] = iter(())
        self.shredded_event_count = 0
        """Events of the period that are in no row since they were made unreadable; known with the first row."""
        self.unreadable_event_count = 0
        """Those that nobody made unreadable: audit's database was tampered with or damaged."""

    def __next__(self) -> UsageRow:
        return next(self.rows)


def row_of(row: pb.UsageRow) -> UsageRow:
    """A row from the contract's message."""
    return UsageRow(
        values=list(row.values),
        event_count=row.event_count,
        item_count=row.item_count,
        first_time=moment(row.first_time),
        last_time=moment(row.last_time),
    )
