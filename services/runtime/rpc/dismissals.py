"""Calls that end without an answer, a few at a time.

Whoever is refused may call again at once. Where thousands are refused in one moment, thousands come again in the next,
and everybody else's calls stand behind them in gRPC's queue.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from itertools import islice
from typing import Generic, TypeVar

from services.runtime.background import UNTIL_WOKEN, Background
from services.runtime.errors import StrongroomError

T = TypeVar("T", bound=Hashable)

_PAUSE_SECONDS = 0.01
_AT_ONCE = 2
_URGENT_AT_ONCE = 8
_URGENT = 512


class Dismissals(Generic[T]):
    """Ends up to 200 calls a second, groups in turn and of each the oldest first; before them 800 urgent ones."""

    def __init__(self, name: str, end: Callable[[T, StrongroomError], None], limit: int) -> None:
        """`end` refuses a call. Beyond `limit` that wait for it, and 512 urgent ones, calls end at once."""
        self._end = end
        self._limit = limit
        self._pause = _PAUSE_SECONDS
        self._lock = threading.Lock()
        self._urgent: dict[T, StrongroomError] = {}
        self._errors: dict[T, tuple[str, StrongroomError]] = {}
        self._groups: OrderedDict[str, dict[T, None]] = OrderedDict()
        self._work = Background(
            name, self._round, "calls were not refused in time", every=UNTIL_WOKEN, again=_PAUSE_SECONDS
        )
        self._work.start()

    def __len__(self) -> int:
        return len(self._errors) + len(self._urgent)

    def add(self, call: T, group: str, error: StrongroomError, *, urgent: bool = False) -> None:
        """Has a call end with an error, soon."""
        with self._lock:
            is_idle = not self._errors and not self._urgent
            is_full = len(self._urgent) >= _URGENT if urgent else len(self._errors) >= self._limit
            if urgent and not is_full:
                self._urgent[call] = error
            elif not is_full:
                self._errors[call] = (group, error)
                self._groups.setdefault(group, {})[call] = None
        if is_full:
            self._end(call, error)
        elif is_idle:
            self._work.wake()

    def forget(self, call: T) -> None:
        """Lets a call be, which has ended or is answered after all."""
        if call in self._errors or call in self._urgent:
            with self._lock:
                self._urgent.pop(call, None)
                self._take(call)

    def hurry(self) -> None:
        """Ends all of them as fast as can be from now on."""
        self._pause = 0.0
        self._work.wake()

    def stop(self) -> None:
        """Ends no more calls."""
        self._work.end()

    def _round(self) -> float:
        with self._lock:
            chosen = [(call, self._urgent.pop(call)) for call in list(islice(self._urgent, _URGENT_AT_ONCE))]
            if not chosen:
                chosen = [found for _ in range(_AT_ONCE) if (found := self._next()) is not None]
        for call, error in chosen:
            self._end(call, error)
        return self._pause if chosen else UNTIL_WOKEN

    def _next(self) -> tuple[T, StrongroomError] | None:
        group = next(iter(self._groups), None)
        if group is None:
            return None
        self._groups.move_to_end(group)
        call = next(iter(self._groups[group]))
        error = self._take(call)
        return None if error is None else (call, error)

    def _take(self, call: T) -> StrongroomError | None:
        found = self._errors.pop(call, None)
        if found is None:
            return None
        group, error = found
        of_group = self._groups[group]
        del of_group[call]
        if not of_group:
            del self._groups[group]
        return error
