"""Single calls of many threads, sent as one batch call: each gets its own outcome, and none waits long for others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from strongroom.calls.crypto.batches import Batch
from strongroom.errors import AWAY, DEADLINE_EXCEEDED, StrongroomError

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_WAIT_SECONDS = 0.001
_MAX_ITEMS = 1000
# A request may have 4 MiB; encryption contexts and the encoding need room beside what is counted.
_MAX_BYTES = 3 << 20
_LARGEST_ITEM = 65_536
_GRACE_SECONDS = 1.0

Send = Callable[[Sequence[Item]], Batch[Result]]


class Coalescer(Generic[Item, Result]):
    """Gathers the calls of one kind.

    A call goes out at once where none of its group is under way. Those that come meanwhile gather, and go together when
    that one is answered, or after a millisecond: so batches are as large as the load makes them, and a lone call waits
    for nobody.
    """

    def __init__(self, max_wait: float = MAX_WAIT_SECONDS) -> None:
        self._max_wait = max_wait
        self._lock = threading.Lock()
        self._gathering: dict[Hashable, _Group[Item, Result]] = {}
        self._under_way: dict[Hashable, int] = {}

    def call(
        self,
        key: Hashable,
        item: Item,
        size: int,
        timeout: float,
        alone: Callable[[], Result],
        send: Send[Item, Result],
    ) -> Result:
        """What `alone` would answer for an item of `size` bytes, made with others of an equal `key`.

        `send` makes the batch call. Where it is refused as a whole, each item is tried alone: what one item is refused
        for is no other's refusal. Raises StrongroomError.
        """
        if not 0 < size <= _LARGEST_ITEM:
            return alone()
        group, position = self._joined(key, item, size)
        if position == 0:
            return self._led(key, group, alone, send)
        if not group.done.wait(timeout + _GRACE_SECONDS):
            raise StrongroomError(
                DEADLINE_EXCEEDED, "the call that this one travelled with did not end in time", code=DEADLINE_EXCEEDED
            )
        return group.outcome(position, alone)

    def _joined(self, key: Hashable, item: Item, size: int) -> tuple[_Group[Item, Result], int]:
        with self._lock:
            group = self._gathering.get(key)
            if group is not None and (len(group.items) >= _MAX_ITEMS or group.size + size > _MAX_BYTES):
                group.may_go.set()
                group = None
            if group is None:
                group = _Group()
                if self._under_way.get(key):
                    self._gathering[key] = group
                else:
                    group.may_go.set()
                self._under_way[key] = self._under_way.get(key, 0) + 1
            group.items.append(item)
            group.size += size
            return group, len(group.items) - 1

    def _led(
        self, key: Hashable, group: _Group[Item, Result], alone: Callable[[], Result], send: Send[Item, Result]
    ) -> Result:
        """Sends a group for all that joined it, and answers what its first gets."""
        try:
            # What a signal handler raises ends it here too, and must leave nobody in a group that is never sent.
            group.may_go.wait(self._max_wait)
            self._close(key, group)
            if len(group.items) == 1:
                return alone()
            group.batch = send(group.items)
        except Exception as error:
            if len(group.items) == 1:
                raise
            # Whose item it was that no request can be made of shows when each is tried alone.
            group.failure = error if isinstance(error, StrongroomError) else None
        finally:
            self._close(key, group)
            self._ended(key)
            group.done.set()
        return group.outcome(0, alone)

    def _close(self, key: Hashable, group: _Group[Item, Result]) -> None:
        """Lets nobody join any more."""
        with self._lock:
            if self._gathering.get(key) is group:
                del self._gathering[key]

    def _ended(self, key: Hashable) -> None:
        with self._lock:
            left = self._under_way[key] - 1
            if left:
                self._under_way[key] = left
            else:
                del self._under_way[key]
            waiting = self._gathering.get(key)
        if waiting is not None:
            waiting.may_go.set()


class _Group(Generic[Item, Result]):
    """Items that travel together, and what came of them."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.size = 0
        self.may_go = threading.Event()
        self.done = threading.Event()
        self.batch: Batch[Result] | None = None
        self.failure: StrongroomError | None = None

    def outcome(self, position: int, alone: Callable[[], Result]) -> Result:
        """What an item gets, once the group is done. Raises StrongroomError."""
        if self.batch is not None:
            outcome = self.batch.outcomes[position]
            if isinstance(outcome, StrongroomError):
                raise outcome
            return outcome
        if self.failure is not None and self.failure.code.name in AWAY:
            raise self.failure.renewed()
        return alone()
