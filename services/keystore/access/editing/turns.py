"""Whose turn it is to change what of an account takes more than a moment to look at.

One call of an account does so at a time, so that they do not all have to begin anew. A call that waits holds a thread,
which others' calls need: few do, none for longer than its caller, principals in turn, and who takes something away goes
first, but not twice in a row where others wait. Where too many would wait, the newest of who has the most gives way.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError

MOST_OF_PRINCIPAL = 8
MOST_OF_ACCOUNT = 12
MOST = 32
"""So many calls wait in a process; as many besides that take something away, of which nobody else takes the places."""
_SECONDS = 10.0


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

    def drop(self) -> None:
        """Has the newest call of the principal that has the most give way."""
        dropped = max(self._principals.values(), key=len)[-1]
        self.remove(dropped)
        dropped.gives_way = True
        dropped.told.set()


class _Account:
    """An account of which something is changed just now."""

    def __init__(self, *, removes: bool) -> None:
        self.queues = {True: _Queue(), False: _Queue()}
        """Of calls that take something away, and of others."""
        self._removes = removes

    def following(self) -> _Waiting | None:
        """Whose turn is next: a removal's, but not after another where somebody else waits. Whoever may take something
        away, or pretend to, could keep all that others give from being made."""
        first = not self._removes
        following = self.queues[first].take() or self.queues[not first].take()
        if following is not None:
            self._removes = following.removes
        return following


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
                self._busy[account] = _Account(removes=waiting.removes)
                return None
            queue = busy.queues[waiting.removes]
            if not self._has_room(queue, waiting):
                raise _is_busy(account)
            queue.put(waiting)
        return waiting

    def _has_room(self, queue: _Queue, waiting: _Waiting) -> bool:
        """Whether a call may wait; somebody else's may have to give way to it."""
        own = queue.of(waiting.principal)
        if own >= MOST_OF_PRINCIPAL:
            return False
        if len(queue) >= MOST_OF_ACCOUNT:
            if queue.most_of_one() <= own + 1:
                return False
            queue.drop()
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
