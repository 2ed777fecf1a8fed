"""Time, injected: domain code asks its clock, tests turn it.

Points in time are microseconds since the Unix epoch everywhere in the services. How long something takes is measured by
`time.monotonic`, which nobody sets and which nothing that is stored or told depends on; what tests turn takes it as an
argument.
"""

from __future__ import annotations

import time
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp


class Clock(Protocol):
    """Tells what time it is."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch."""


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch."""
        return time.time_ns() // 1_000


system_clock = SystemClock()
"""The clock of every service."""


def seconds(microseconds: int) -> float:
    """A point in time as seconds since the Unix epoch, which is what tokens and policies tell it in."""
    return microseconds / 1e6


def microseconds(value: Timestamp) -> int:
    """Microseconds since the Unix epoch of a protobuf timestamp."""
    return value.seconds * 1_000_000 + value.nanos // 1_000


def from_microseconds(value: int) -> Timestamp:
    """The protobuf form of microseconds since the Unix epoch."""
    return Timestamp(seconds=value // 1_000_000, nanos=value % 1_000_000 * 1_000)


def optional_moment(value: int | None) -> Timestamp | None:
    """The protobuf form of a point in time that there may not be."""
    return from_microseconds(value) if value is not None else None
