"""Events that wait to be sent to the audit log: those of each account in order, accounts in turns."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from services.runtime.errors import Reason, StrongroomError
from services.runtime.event_bounds import MAX_CALL_BYTES
from strongroom.audit.v1.event_pb2 import Event

Then = Callable[[StrongroomError | None], None]
"""Is told that the events of a call are durable, or why they are not."""

log = logging.getLogger(__name__)

MAX_WAITING_BYTES = 8 << 20
"""Of one payer; so much more than calls in work can make that only one whose own are slow comes near it."""
MAX_WAITING_EVENTS = 16_384
_GROUP_BYTES = MAX_CALL_BYTES
_MOST_DEFERRED = 4_096
_MOST_DEFERRED_BYTES = 32 << 20


class Entry:
    """Events of one call that wait to be sent."""

    __slots__ = ("deadline", "events", "sent", "size", "traceparent")

    def __init__(self, events: Sequence[Event], size: int, traceparent: str, deadline: float) -> None:
        self.events = events
        self.size = size
        self.traceparent = traceparent
        self.deadline = deadline
        self.sent = False

    def settle(self, error: StrongroomError | None) -> None:
        """Called once, when the events are durable or, with an error, will not be."""
        raise NotImplementedError


class Waiting(Entry):
    """Events that a thread waits for."""

    __slots__ = ("done", "error")

    def __init__(self, events: Sequence[Event], size: int, traceparent: str, deadline: float) -> None:
        super().__init__(events, size, traceparent, deadline)
        self.error: StrongroomError | None = None
        # A bare lock, taken twice: a third of the price of threading.Event.
        self.done = threading.Lock()
        self.done.acquire()

    def settle(self, error: StrongroomError | None) -> None:
        """Lets the thread go on."""
        self.error = error
        self.done.release()


class Deferred(Entry):
    """Events that nobody waits for: `then` is called in the sender's thread, and must wait for nothing."""

    __slots__ = ("_then",)

    def __init__(
        self,
        events: Sequence[Event],
        size: int,
        traceparent: str,
        deadline: float,
        then: Then,
    ) -> None:
        super().__init__(events, size, traceparent, deadline)
        self._then = then

    def settle(self, error: StrongroomError | None) -> None:
        """Goes on with the call."""
        # What it holds leads back here, and to the call: gRPC counts a call as open until nobody refers to it.
        then, self._then = self._then, _nothing
        try:
            then(error)
        except Exception:  # a sender that ends would leave all that wait for ever
            log.exception("the answer of a call could not be sent after its event was kept")


class _Backlog:
    """What waits of one payer."""

    __slots__ = ("bytes", "events", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Entry] = deque()
        self.bytes = 0
        self.events = 0

    def add(self, one: Entry, sign: int = 1) -> None:
        self.bytes += sign * one.size
        self.events += sign * len(one.events)


class Queue:
    """Hands out groups that one append can carry: so many events, so many bytes, a call's of each payer in turn."""

    def __init__(self, group_limit: int) -> None:
        self._group_limit = group_limit
        self._backlogs: dict[str, _Backlog] = {}
        self._turns: deque[str] = deque()
        self._work = threading.Condition(threading.Lock())
        self._stopping = False

    def put(self, payer: str, waiting: Sequence[Entry]) -> None:
        """Adds what one call waits for. Raises AUDIT_BACKLOG where too much of this payer waits already."""
        with self._work:
            backlog = self._backlogs.get(payer)
            if backlog is None:
                backlog = self._backlogs[payer] = _Backlog()
                self._turns.append(payer)
            elif backlog.bytes >= MAX_WAITING_BYTES or backlog.events >= MAX_WAITING_EVENTS:
                raise _backlog(payer)
            for one in waiting:
                backlog.add(one)
            backlog.waiting.extend(waiting)
            self._work.notify()

    def stop(self) -> None:
        """Has `next_group` answer nothing once nothing waits."""
        with self._work:
            self._stopping = True
            self._work.notify_all()

    def next_group(self) -> list[Entry]:
        """Waits for events; answers a group, or nothing once the queue stops."""
        with self._work:
            while not self._turns:
                if self._stopping:
                    return []
                self._work.wait()
            group = self._taken()
            if self._turns:
                self._work.notify()
            return group

    def _taken(self) -> list[Entry]:
        group: list[Entry] = []
        events = size = 0
        while self._turns:
            payer = self._turns[0]
            backlog = self._backlogs[payer]
            one = backlog.waiting[0]
            events += len(one.events)
            size += one.size
            if group and (events > self._group_limit or size > _GROUP_BYTES):
                break
            group.append(backlog.waiting.popleft())
            backlog.add(one, -1)
            self._turns.popleft()
            if backlog.waiting:
                self._turns.append(payer)
            else:
                del self._backlogs[payer]
        return group


class Deferrals:
    """How many calls wait without a thread, and how much they hold."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = 0
        self._bytes = 0

    def enter(self, held_bytes: int) -> bool:
        """Whether there is room for one more."""
        with self._lock:
            if self._calls >= _MOST_DEFERRED or self._bytes + held_bytes > _MOST_DEFERRED_BYTES:
                return False
            self._calls += 1
            self._bytes += held_bytes
            return True

    def leave(self, held_bytes: int) -> None:
        """Makes room again."""
        with self._lock:
            self._calls -= 1
            self._bytes -= held_bytes


GiveBack = Callable[[Sequence[Entry], grpc.RpcError | None], None]
"""Is told a group that was not appended, because of that or without having been sent."""


@dataclass(frozen=True, slots=True)
class GivenBack:
    """A group that did not go directly."""

    group: Sequence[Entry]
    error: StrongroomError | None
    """Why, where it was sent."""


class Direct(Protocol):
    """A way to the log past the threads of this process, for as long as all goes well: what it cannot do it gives
    back."""

    @property
    def is_open(self) -> bool:
        """Whether it takes events."""

    def open(self) -> None:
        """Begins to take events, unless it does, as soon as the log is reached."""

    def append(self, entry: Deferred, payer: str, request: bytes, seconds: float, held_bytes: int, ready: Any) -> bool:
        """Appends the events of an entry, whose `request` that is, within so many seconds, and then sends what is
        `ready`, or settles the entry where nothing is. False where it takes none now."""

    def close(self) -> Iterable[Sequence[Entry]]:
        """Takes no more, until it is opened. Answers the groups that were not sent."""

    def stop(self, seconds: float) -> Iterable[Sequence[Entry]]:
        """Takes no more for good, and waits so long for what was sent. Answers the groups that were not."""


def _nothing(_error: StrongroomError | None) -> None:
    pass


def _backlog(payer: str) -> StrongroomError:
    return StrongroomError(
        Reason.AUDIT_BACKLOG,
        f"too many events of {payer or 'callers that are not known'} wait for the audit log; make fewer calls at once",
        retry_after_seconds=1.0,
        payer=payer,
    )
