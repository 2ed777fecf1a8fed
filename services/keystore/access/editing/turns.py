"""Whose turn it is to change what of an account takes more than a moment to look at.

One call of an account does so at a time, so that they do not all have to begin anew. A call that waits holds a thread,
which others' calls need: few do, none for longer than its caller, principals in turn, and who takes something away goes
first, but not twice in a row where others wait. Where too many would wait, the newest of who has the most gives way,
and where all have as many, who had a turn last to whoever had none for longer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError

MOST_OF_PRINCIPAL = 8
MOST_OF_ACCOUNT = 12
MOST = 32
"""So many calls wait in a process; as many besides that take something away, of which nobody else takes the places."""
_SECONDS = 10.0
# So many of an account's principals that had a turn are known.
_REMEMBERED = 1_000
_NEVER = 0


@dataclass(eq=False, slots=True)
class _Waiting:
    """One call."""

    principal: str
    removes: bool
    told: threading.Event = field(default_factory=threading.Event)
    """Set when its turn has come, or it has to give way."""
    gives_way: bool = False


class _Queue:
    """The calls of an account that wait, principals in turn."""

    def __init__(self) -> None:
        self._principals: dict[str, deque[_Waiting]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._principals.values()))

    def of(self, principal: str) -> int:
        return len(self._principals.get(principal, ()))

    def most_of_one(self) -> int:
        return max(map(len, self._principals.values()), default=0)

    def highest(self, rank: Callable[[str], int]) -> int:
        return max(map(rank, self._principals), default=_NEVER)

    def put(self, waiting: _Waiting) -> None:
        self._principals.setdefault(waiting.principal, deque()).append(waiting)

    def remove(self, waiting: _Waiting) -> None:
        calls = self._principals[waiting.principal]
        calls.remove(waiting)
        if not calls:
            del self._principals[waiting.principal]

    def take(self) -> _Waiting | None:
        principal = next(iter(self._principals), None)
        if principal is None:
            return None
        calls = self._principals.pop(principal)
        taken = calls.popleft()
        if calls:
            self._principals[principal] = calls
        return taken

    def drop(self, rank: Callable[[str], int] | None = None) -> None:
        """Has the newest call of the principal that has the most give way, or that has the highest rank."""
        principal = max(self._principals, key=rank or self.of)
        dropped = self._principals[principal][-1]
        self.remove(dropped)
        dropped.gives_way = True
        dropped.told.set()


class _Account:
    """An account of which something is changed just now."""

    def __init__(self, first: _Waiting) -> None:
        self.queues = {True: _Queue(), False: _Queue()}
        """Of calls that take something away, and of others."""
        self._had: dict[str, int] = {}
        self._count = 0
        self._removes = first.removes
        self._note(first)

    def last_turn(self, principal: str) -> int:
        """Which turn of the account was a principal's last, since it is busy; below all others where it had none."""
        return self._had.get(principal, _NEVER)

    def following(self) -> _Waiting | None:
        """Whose turn is next: a removal's, but not after another where somebody else waits. Whoever may take something
        away, or pretend to, could keep all that others give from being made."""
        first = not self._removes
        following = self.queues[first].take() or self.queues[not first].take()
        if following is not None:
            self._removes = following.removes
            self._note(following)
        return following

    def _note(self, call: _Waiting) -> None:
        self._count += 1
        self._had.pop(call.principal, None)
        self._had[call.principal] = self._count
        if len(self._had) > _REMEMBERED:
            del self._had[next(iter(self._had))]


class Turns:
    """The accounts of which something is changed just now, and the calls that wait to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: dict[str, _Account] = {}

    @contextmanager
    def turn(self, call: Call, account: str, *, removes: bool) -> Iterator[bool]:
        """This call's turn; whether it had to wait for that. Raises OVERLOADED at once where too many wait, and where
        its turn does not come within seconds, or before the caller has gone."""
        waiting = self._enter(account, _Waiting(call.principal.name, removes))
        if waiting is not None:
            self._wait(account, waiting, _seconds(call))
        try:
            yield waiting is not None
        finally:
            self._leave(account)

    def count(self, *, removes: bool) -> int:
        """How many calls wait."""
        return sum(len(one.queues[removes]) for one in self._busy.values())

    def _enter(self, account: str, waiting: _Waiting) -> _Waiting | None:
        with self._lock:
            busy = self._busy.get(account)
            if busy is None:
                self._busy[account] = _Account(waiting)
                return None
            queue = busy.queues[waiting.removes]
            if not self._has_room(busy, queue, waiting):
                raise _is_busy(account)
            queue.put(waiting)
        return waiting

    def _has_room(self, busy: _Account, queue: _Queue, waiting: _Waiting) -> bool:
        """Whether a call may wait; somebody else's may have to give way to it."""
        own = queue.of(waiting.principal)
        if own >= MOST_OF_PRINCIPAL:
            return False
        if len(queue) >= MOST_OF_ACCOUNT:
            if queue.most_of_one() > own + 1:
                queue.drop()
            elif not own and queue.highest(busy.last_turn) > busy.last_turn(waiting.principal):
                # As many principals as there are places would keep all others out who have none.
                queue.drop(busy.last_turn)
            else:
                return False
        elif self.count(removes=waiting.removes) >= MOST:
            largest = max((one.queues[waiting.removes] for one in self._busy.values()), key=len)
            if len(largest) <= len(queue) + 1:
                return False
            largest.drop()
        return True

    def _wait(self, account: str, waiting: _Waiting, seconds: float) -> None:
        if not waiting.told.wait(seconds):
            with self._lock:
                # It may have come just now.
                if not waiting.told.is_set():
                    self._busy[account].queues[waiting.removes].remove(waiting)
                    raise _is_busy(account)
        if waiting.gives_way:
            raise _is_busy(account)

    def _leave(self, account: str) -> None:
        with self._lock:
            following = self._busy[account].following()
            if following is None:
                del self._busy[account]
            else:
                following.told.set()


def _seconds(call: Call) -> float:
    left = call.seconds_left()
    return _SECONDS if left is None else min(_SECONDS, left)


def _is_busy(account: str) -> StrongroomError:
    return StrongroomError(
        Reason.OVERLOADED, f"accounts/{account} is changed by many calls at once: try again", retry_after_seconds=0.2
    )
