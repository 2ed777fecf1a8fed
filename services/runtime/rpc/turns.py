"""Threads that serve callers in turn, so that one with many calls keeps others waiting for no more than one of them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Protocol

from services.runtime.rpc.admission import Caller

log = logging.getLogger(__name__)


_COSTLY_SECONDS = 0.02
# What many calls take together: of those that take so long each, and of every second.
_NOTICED_SECONDS = 0.001
_COSTLY_PART = 0.15
_COSTLY_BURST_SECONDS = 0.05
# A group that is costly rests so many times as long as its task took, while others have calls.
_RESTS = 4
_LONGEST_REST_SECONDS = 0.1
_RECENT_SECONDS = 0.1
_LARGE_BYTES = 128 << 10
_KNOWN_COSTS = 4_096
_COSTLY_FOR_SECONDS = 2.0
# What a burst brought into being is not kept.
_IDLE_SECONDS = 5.0


class Costs:
    """Which groups have tasks that take long of the processor: those of which one did lately, or many did together, and
    those that send large messages. What else they send makes no difference, or cheap calls would hide costly ones."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._until: dict[str, float] = {}
        self._levels: dict[str, tuple[float, float]] = {}

    def expect(self, task: Task) -> None:
        """Takes a large message for costly."""
        if task.size > _LARGE_BYTES:
            self._note(task.caller.group)

    def spent(self, group: str, seconds: float) -> None:
        """Notes what a task has taken, in thread time."""
        together = seconds > _NOTICED_SECONDS and self._level(group, seconds) > _COSTLY_BURST_SECONDS
        if together or seconds > _COSTLY_SECONDS:
            self._note(group)

    def are_costly(self, group: str) -> bool:
        """Whether the group's tasks are to run few at a time."""
        until = self._until.get(group)
        if until is None or self._monotonic() < until:
            return until is not None
        del self._until[group]
        return False

    def _level(self, group: str, seconds: float) -> float:
        """What the group's tasks have taken beyond their part of the time, with one that took so long."""
        now = self._monotonic()
        level, at = self._levels.get(group, (0.0, now))
        level = max(level - (now - at) * _COSTLY_PART, 0.0) + seconds
        if len(self._levels) >= _KNOWN_COSTS:
            self._levels.clear()
        self._levels[group] = level, now
        return level

    def _note(self, group: str) -> None:
        if len(self._until) >= _KNOWN_COSTS:
            self._until.clear()
        self._until[group] = self._monotonic() + _COSTLY_FOR_SECONDS


class Arrivals:
    """When calls of any group but one came last."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._newest = ""
        self._newest_at = self._others_at = -_RECENT_SECONDS

    def note(self, group: str) -> None:
        """A call of a group has come."""
        if group != self._newest:
            self._newest, self._others_at = group, self._newest_at
        self._newest_at = self._monotonic()

    def of_others(self, group: str) -> bool:
        """Whether one of another group came a moment ago."""
        at = self._others_at if group == self._newest else self._newest_at
        return self._monotonic() - at < _RECENT_SECONDS


class Task(Protocol):
    """A call that is whole."""

    @property
    def caller(self) -> Caller:
        """Whose turn it takes."""

    @property
    def size(self) -> int:
        """Bytes that it holds while it waits."""

    def run(self) -> None:
        """Does the work, in a thread."""


@dataclass(slots=True)
class _Group:
    name: str
    queues: dict[str, deque[Task]] = field(default_factory=dict)
    members: deque[str] = field(default_factory=deque)
    waiting: int = 0
    held_bytes: int = 0
    running: int = 0
    in_order: bool = False

    def add(self, task: Task) -> None:
        member = task.caller.member
        queue = self.queues.get(member)
        if queue is None:
            queue = self.queues[member] = deque()
            self.members.append(member)
        queue.append(task)
        self.waiting += 1
        self.held_bytes += task.size

    def take(self) -> Task:
        member = self.members.popleft()
        queue = self.queues[member]
        task = queue.popleft()
        if queue:
            self.members.append(member)
        else:
            del self.queues[member]
        self.waiting -= 1
        self.held_bytes -= task.size
        return task

    def drop_newest(self) -> Task:
        """Takes the newest task of the member that has the most."""
        member, queue = max(self.queues.items(), key=lambda item: len(item[1]))
        task = queue.pop()
        if not queue:
            del self.queues[member]
            self.members.remove(member)
        self.waiting -= 1
        self.held_bytes -= task.size
        return task


class Turns:
    """Up to `threads` threads. Groups take turns, and within a group its members; a group has at most `share` threads,
    and one whose tasks take long of the processor fewer: Python runs in one thread at a time, and each that wants to
    run keeps all others waiting.

    At most `waiting` tasks of `waiting_bytes` wait: beyond, the newest of the group that has the most of what is short
    give way.
    """

    def __init__(
        self, name: str, *, threads: int, share: int, waiting: int, waiting_bytes: int, costly_share: int | None = None
    ) -> None:
        """`costly_share` is how many threads a group has whose tasks are costly: as many as any other without one."""
        self._name = name
        self._threads = threads
        self._share = share
        self._costly_share = share if costly_share is None else costly_share
        self._costs = Costs()
        self._limit = waiting
        self._limit_bytes = waiting_bytes
        self._lock = threading.Lock()
        # One token for each task that waits, but for those whose group may not run any more at the time.
        self._tokens: SimpleQueue[bool] = SimpleQueue()
        self._parked = 0
        self._order: deque[_Group] = deque()
        self._groups: dict[str, _Group] = {}
        self._waiting = 0
        self._bytes = 0
        self._started = 0
        self._idle = 0
        self._arrivals = Arrivals()

    def put(self, task: Task) -> Sequence[Task]:
        """Has a thread run the task. Answers those that have to give way instead, when there are too many: it may be
        one of them."""
        caller = task.caller
        with self._lock:
            self._costs.expect(task)
            self._arrivals.note(caller.group)
            displaced = self._in_the_way_of(task)
            if displaced and displaced[-1] is task:
                return displaced
            group = self._groups.get(caller.group)
            if group is None:
                group = self._groups[caller.group] = _Group(caller.group)
            group.add(task)
            self._waiting += 1
            self._bytes += task.size
            self._offer(group)
            start = self._idle < self._waiting and self._started < self._threads
            if start:
                self._started += 1
        self._tokens.put(True)
        if start:
            self._start()
        return displaced

    def close(self) -> None:
        """Ends the threads once they have nothing to do."""
        for _ in range(self._threads):
            self._tokens.put(False)

    def _start(self) -> None:
        try:
            threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True).start()
        except RuntimeError:
            # The machine has no thread left: those that there are do the work, and the next task tries again.
            with self._lock:
                self._started -= 1
            log.warning("no thread could be started to serve callers", extra={"fields": {"pool": self._name}})

    def _in_the_way_of(self, task: Task) -> Sequence[Task]:
        """Takes out what has to give way to a task, whose last may be the task itself; nothing where there is room."""
        displaced: list[Task] = []
        while self._waiting >= self._limit or self._bytes + task.size > self._limit_bytes:
            largest = self._larger_than_that_of(task)
            if largest is None:
                return [*displaced, task]
            one = largest.drop_newest()
            displaced.append(one)
            self._waiting -= 1
            self._bytes -= one.size
        return displaced

    def _larger_than_that_of(self, task: Task) -> _Group | None:
        """The group that has most of what is short, if it has more of it than the task's own would have."""
        own = self._groups.get(task.caller.group) or _Group("")
        if self._bytes + task.size > self._limit_bytes:
            largest = max(self._groups.values(), key=lambda group: group.held_bytes, default=own)
            return largest if largest.held_bytes > own.held_bytes + task.size else None
        largest = max(self._groups.values(), key=lambda group: group.waiting, default=own)
        return largest if largest.waiting > own.waiting + 1 else None

    def _offer(self, group: _Group) -> None:
        """Puts a group in order when it has something to run and may."""
        if group.in_order or not group.waiting or group.running >= self._share:
            return
        if group.running < self._costly_share or not self._costs.are_costly(group.name):
            group.in_order = True
            self._order.append(group)

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            if not self._is_woken():
                return
            with self._lock:
                self._idle -= 1
                task = self._next()
            if task is not None:
                began = time.thread_time()
                try:
                    task.run()
                except Exception:
                    log.exception("a call failed outside its handler")
                rest = self._spent(task.caller.group, time.thread_time() - began)
                if rest:
                    time.sleep(rest)
                self._done(task.caller.group)
                # The thread waits for the next one meanwhile, and a message may have megabytes.
                del task

    def _spent(self, group: str, seconds: float) -> float:
        """A task of a group took so long of the processor. Answers how long its place stays taken: what runs in this
        process beside others' calls holds up each of their steps."""
        with self._lock:
            self._costs.spent(group, seconds)
            may_rest = self._costly_share < self._share and seconds > _NOTICED_SECONDS
            if may_rest and self._costs.are_costly(group) and self._arrivals.of_others(group):
                return min(seconds * _RESTS, _LONGEST_REST_SECONDS)
        return 0.0

    def _is_woken(self) -> bool:
        """Waits for a token. False once this thread has nothing to do any more, and is counted no longer."""
        while True:
            try:
                go_on = self._tokens.get(timeout=_IDLE_SECONDS)
            except Empty:
                go_on = False
                with self._lock:
                    # A task that came just now may count on this thread; and the last one stays, as another might not
                    # be had.
                    if self._idle <= self._waiting or self._started == 1:
                        continue
                    self._idle -= 1
                    self._started -= 1
            return go_on

    def _next(self) -> Task | None:
        if not self._order:
            # What gave way has left its token behind, so there can be more of them than tasks.
            self._parked = min(self._parked + 1, self._waiting)
            return None
        group = self._order.popleft()
        group.in_order = False
        task = group.take()
        group.running += 1
        self._waiting -= 1
        self._bytes -= task.size
        self._offer(group)
        return task

    def _done(self, name: str) -> None:
        with self._lock:
            group = self._groups[name]
            group.running -= 1
            self._offer(group)
            wake = self._parked > 0 and bool(self._order)
            if wake:
                self._parked -= 1
            if not group.waiting and not group.running:
                del self._groups[name]
        if wake:
            self._tokens.put(True)
