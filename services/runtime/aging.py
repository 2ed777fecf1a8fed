"""Cached records leave by and by: what a cache is never told of, it does not believe for long.

Changes tell caches what to drop. Whoever writes to the database that they come from could keep some back, so each
record is read anew now and then, at its next use. They leave in the order in which they came, a few at a time, so that
whoever has many does not read them all at once.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

ROUND_SECONDS = 120.0
"""In which everything leaves that a cache had at the beginning of a round: what is read anew early in one leaves with
the next, so no record is older than twice that."""
MOST_PER_SECOND = 200
"""What leaves a cache within a second, however many records it has. A round of more than 24,000 takes longer."""


class Aging:
    """The rounds of one cache."""

    def __init__(self, entries: dict[Any, Any], aged: dict[Any, Any] | None = None) -> None:
        """`entries` are in the order in which they came; those that left so go to `aged`, for who reads them again and
        finds them as they were."""
        self._entries = entries
        self._aged = aged
        self._began = 0.0
        self._seconds = 0.0
        self._count = 0
        self._gone = 0

    def let_go(self, now: float) -> None:
        """Has leave what is to have left by now, a monotonic time. Nobody else changes the cache meanwhile, or only by
        what Python does at once."""
        passed = now - self._began
        # All of those that there were at the beginning, though others may have left by other ways.
        due = self._count if passed >= self._seconds else int(self._count * passed / self._seconds)
        for key in list(islice(self._entries, due - self._gone)):
            self._leave(key)
        self._gone = due
        if passed >= self._seconds:
            self._began, self._gone, self._count = now, 0, len(self._entries)
            self._seconds = max(ROUND_SECONDS, self._count / MOST_PER_SECOND)

    def _leave(self, key: Any) -> None:
        left = self._entries.pop(key, None)
        if self._aged is not None and left is not None:
            self._aged[key] = left
