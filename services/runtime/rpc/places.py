"""A bounded number of places that nobody can take for themselves: when none is free, the oldest holder of the group
that has the most gives way.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from itertools import takewhile
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Places(Generic[T]):
    """Who holds a place, by group, in order of coming."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._all: dict[T, str] = {}
        self._groups: dict[str, dict[T, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, holder: T, group: str) -> T | None:
        """Gives `holder` a place. Answers who had to give way and holds none any more, when somebody had to."""
        with self._lock:
            displaced = self._greediest() if len(self._all) >= self._limit else None
            if displaced is not None:
                self._remove(displaced)
            self._all[holder] = group
            self._groups.setdefault(group, {})[holder] = None
            return displaced

    def leave(self, holder: T) -> bool:
        """Frees the place; False when `holder` had none any more."""
        with self._lock:
            if holder not in self._all:
                return False
            self._remove(holder)
            return True

    def oldest(self) -> T | None:
        """Who has held a place for the longest."""
        with self._lock:
            return next(iter(self._all), None)

    def surplus(self, limit: int, counts: Callable[[T], bool]) -> list[T]:
        """Who has to leave for no more than `limit` to hold a place of the oldest, up to the first that does not count:
        the oldest of the groups that have the most of them."""
        with self._lock:
            oldest = list(takewhile(lambda holder: counts(holder[0]), self._all.items()))
        if len(oldest) <= limit:
            return []
        groups: dict[str, deque[T]] = {}
        for holder, group in oldest:
            groups.setdefault(group, deque()).append(holder)
        return [max(groups.values(), key=len).popleft() for _ in range(len(oldest) - limit)]

    def holders(self) -> list[T]:
        """Everybody who holds a place now."""
        with self._lock:
            return list(self._all)

    def of_group(self, group: str) -> int:
        """How many places a group holds."""
        return len(self._groups.get(group, ()))

    def _greediest(self) -> T | None:
        largest = max(self._groups.values(), key=len, default=None)
        return next(iter(largest), None) if largest else None

    def _remove(self, holder: T) -> None:
        group = self._all.pop(holder)
        members = self._groups[group]
        del members[holder]
        if not members:
            del self._groups[group]
