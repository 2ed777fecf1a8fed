"""A value that others may change, read again when it is 5 seconds old."""

from __future__ import annotations

import time
from collections.abc import Callable

_SECONDS = 5.0


class Refreshed:
    """A number, and when it was read."""

    def __init__(self, read: Callable[[], int]) -> None:
        self._read = read
        self._value = 0
        self._until = 0.0

    def get(self) -> int:
        """The number, at most 5 seconds old. Raises what reading it does."""
        now = time.monotonic()
        if now >= self._until:
            self._value = self._read()
            self._until = now + _SECONDS
        return self._value

    def forget(self) -> None:
        """Has it read again the next time."""
        self._until = 0.0
