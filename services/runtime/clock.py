"""Time, injected: domain code asks its clock, tests turn it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

# Nanoseconds since the Unix epoch.
Clock = Callable[[], int]

system_clock: Clock = time.time_ns


def timestamp(nanoseconds: int) -> Timestamp:
    """The protobuf form of a point in time given in nanoseconds since the Unix epoch."""
    return Timestamp(seconds=nanoseconds // 1_000_000_000, nanos=nanoseconds % 1_000_000_000)


def microseconds(value: Timestamp) -> int:
    """Microseconds since the Unix epoch of a protobuf timestamp."""
    return value.seconds * 1_000_000 + value.nanos // 1_000


def from_microseconds(value: int) -> Timestamp:
    """The protobuf form of microseconds since the Unix epoch, which is how the databases keep time."""
    return timestamp(value * 1_000)


def optional_moment(value: int | None) -> Timestamp | None:
    """A time in microseconds as a Timestamp; None for None."""
    return from_microseconds(value) if value is not None else None


def as_datetime(nanoseconds: int) -> datetime:
    """Nanoseconds since the Unix epoch as an aware `datetime` in UTC."""
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)
