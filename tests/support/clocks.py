"""Clocks that tests hand in."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class StillClock:
    """A clock that stands still until a test moves it."""

    us: int = 0
    """Microseconds since the Unix epoch."""

    def now_us(self) -> int:
        return self.us


@dataclass
class SkewedClock:
    """The machine's clock, and so many seconds."""

    seconds: float = 0.0

    def now_us(self) -> int:
        return time.time_ns() // 1_000 + int(self.seconds * 1_000_000)


class ClockOf:
    """A clock that tells what a function of the test says, in microseconds."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us

    def now_us(self) -> int:
        return self._now_us()
