"""Data keys at hand: one call to the mesh for many messages, within limits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from strongroom.errors import AWAY, StrongroomError
from strongroom.fetches import Fetches

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation

log = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

_RETRY_SECONDS = 1.0
_REFRESH_AT_USE = 0.9


@dataclass(frozen=True, slots=True)
class CacheMetrics:
    """What a cache did since it was made.

    `hits` are messages that needed no call; `misses` those that waited for one; `refreshes` calls that were made ahead,
    beside messages that did not wait; `failures` calls that failed; `stale` failures that were bridged with a data key
    beyond its age; `evictions` data keys that made room for others; `entries` data keys that are held now.
    """

    hits: int
    misses: int
    refreshes: int
    failures: int
    stale: int
    evictions: int
    entries: int


class DataKeyCache:
    """Keeps data keys for messages to come, on the encrypting and on the decrypting side; shared between threads.

    A data key serves one set of keys and one encryption context, for at most `max_messages` messages of `max_bytes`
    bytes in all, and for `max_age` seconds. It is replaced ahead of its end: `refresh_ahead` seconds before, or when
    nine tenths of its messages or bytes are used, beside messages that go on. Concurrent messages without one make one
    call.

    While the mesh cannot be reached, a data key is used up to `max_stale` seconds longer; what the mesh refuses (the
    key is disabled, the permission is gone) is never bridged. So a revocation takes effect here after `max_age` seconds
    at the latest, and after `max_age + max_stale` in a process that cannot reach the mesh; `clear` forgets at once.

    Args:
        max_age: seconds that a data key is used.
        max_messages: messages that are encrypted, or decrypted, with one data key.
        max_bytes: bytes of content that are encrypted, or decrypted, with one data key.
        refresh_ahead: seconds before its end that a data key which is in use is replaced.
        max_stale: seconds beyond its age that a data key is used while the mesh cannot be reached.
        capacity: data keys that are kept for one set of keys, in each direction; those that came first go first.
        meter: of OpenTelemetry, to show the metrics there.
    """

    def __init__(
        self,
        *,
        max_age: float = 300.0,
        max_messages: int = 1_000_000,
        max_bytes: int = 1 << 40,
        refresh_ahead: float = 30.0,
        max_stale: float = 120.0,
        capacity: int = 1000,
        meter: Meter | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, given in (("max_age", max_age), ("max_messages", max_messages), ("capacity", capacity)):
            if given <= 0:
                raise StrongroomError("FIELD_INVALID", f"{name} must be more than 0", field=name)
        self.max_age = max_age
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.refresh_ahead = min(refresh_ahead, max_age / 2)
        self.max_stale = max_stale
        self.capacity = capacity
        self.monotonic = monotonic
        self._rooms: dict[Hashable, Room[Any, Any]] = {}
        self._lock = threading.Lock()
        if meter is not None:
            self._show(meter)

    def room(self, purpose: Hashable) -> Room[Any, Any]:
        """The part of the cache that is for one purpose; whoever gives an equal one shares it."""
        with self._lock:
            room = self._rooms.get(purpose)
            if room is None:
                room = self._rooms[purpose] = Room(self)
            return room

    def clear(self) -> None:
        """Forgets every data key, also those that are on their way."""
        for room in self._all():
            room.clear()

    @property
    def metrics(self) -> CacheMetrics:
        """What the cache did so far."""
        rooms = self._all()
        counts = [sum(getattr(room, f"{name}_count") for room in rooms) for name in CacheMetrics.__slots__]
        return CacheMetrics(*counts)

    def _all(self) -> list[Room[Any, Any]]:
        with self._lock:
            return list(self._rooms.values())

    def _show(self, meter: Meter) -> None:
        from opentelemetry.metrics import Observation

        def observed(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
            return lambda _: [Observation(getattr(self.metrics, name))]

        for name in CacheMetrics.__slots__:
            create = meter.create_observable_gauge if name == "entries" else meter.create_observable_counter
            create(f"strongroom.data_key_cache.{name}", [observed(name)])


class Entry(Generic[Value]):
    """One data key in the cache, or what is made of one."""

    __slots__ = (
        "_messages",
        "bytes_left",
        "expires_at",
        "lock",
        "low",
        "low_bytes",
        "messages_left",
        "refresh_at",
        "stale_until",
        "value",
    )

    def __init__(self, value: Value, cache: DataKeyCache, now: float) -> None:
        self.value = value
        self.expires_at = now + cache.max_age
        self.refresh_at = self.expires_at - cache.refresh_ahead
        self.stale_until = self.expires_at + cache.max_stale
        self._messages = self.messages_left = cache.max_messages
        self.low = int(cache.max_messages * (1 - _REFRESH_AT_USE))
        """With how many messages left it should be replaced."""
        self.bytes_left = cache.max_bytes
        self.low_bytes = int(cache.max_bytes * (1 - _REFRESH_AT_USE))
        self.lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Uses the data key for a message of `size` bytes; False where it may serve no other."""
        with self.lock:
            if self.messages_left <= 0 or self.bytes_left < size:
                return False
            self.messages_left -= 1
            self.bytes_left -= size
            return True

    @property
    def served(self) -> int:
        """How many messages it was used for."""
        return self._messages - self.messages_left

    @property
    def is_used_up(self) -> bool:
        """Whether it may serve no other message."""
        return self.messages_left <= 0 or self.bytes_left <= 0

    def prolong(self, now: float) -> None:
        """Uses the data key beyond its age, and asks for another one now and then."""
        self.refresh_at, self.expires_at = min(now + _RETRY_SECONDS, self.stale_until), self.stale_until
        self.low, self.low_bytes = -1, 0


class Room(Generic[Key, Value]):
    """The data keys of one purpose, each by what it is for."""

    def __init__(self, cache: DataKeyCache) -> None:
        self._cache = cache
        self._entries: dict[Key, Entry[Value]] = {}
        self._fetches: Fetches[Key, Entry[Value]] = Fetches("data-key-refresh")
        self._lock = threading.Lock()
        self._generation = 0
        self._monotonic = cache.monotonic
        self._served_before = self._served_after_waiting = 0
        self.misses_count = self.refreshes_count = self.failures_count = self.stale_count = self.evictions_count = 0

    @property
    def entries_count(self) -> int:
        """How many data keys are held."""
        return len(self._entries)

    @property
    def hits_count(self) -> int:
        """How many messages needed no call."""
        with self._lock:
            served = self._served_before + sum(entry.served for entry in self._entries.values())
            return served - self._served_after_waiting

    def get(self, key: Key, size: int, fetch: Callable[[Key], Value]) -> Value:
        """The data key for a message of `size` bytes; `fetch` asks the mesh for one. Raises what it raises."""
        value = self.at_hand(key, size, fetch)
        return self.waited(key, size, fetch) if value is None else value

    def at_hand(self, key: Key, size: int, fetch: Callable[[Key], Value]) -> Value | None:
        """What `get` answers where no message must wait for it; else None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if self._monotonic() < entry.refresh_at:
            # Nearly every message comes this way, where a call more would be felt.
            with entry.lock:
                entry.messages_left = left = entry.messages_left - 1
                entry.bytes_left = bytes_left = entry.bytes_left - size
                if left > entry.low and bytes_left >= entry.low_bytes:
                    return entry.value
                entry.messages_left += 1
                entry.bytes_left += size
        if self._monotonic() >= entry.expires_at or not entry.take(size):
            return None
        self._refresh_beside(key, fetch)
        return entry.value

    def waited(self, key: Key, size: int, fetch: Callable[[Key], Value]) -> Value:
        """What `get` answers where nothing is at hand."""
        self._count("misses_count")
        if size > self._cache.max_bytes:
            return fetch(key)
        while True:
            entry, is_mine = self._fetches.wait(key, partial(self._fetched, fetch))
            # One that another asked for may have come to its end meanwhile; others may have used it up.
            if (is_mine or self._monotonic() < entry.expires_at) and entry.take(size):
                self._count("_served_after_waiting")
                return entry.value
            if is_mine:
                return fetch(key)

    def spend(self, key: Key, size: int) -> None:
        """Counts bytes of a message that nobody knew the size of when it began."""
        entry = self._entries.get(key)
        if entry is not None:
            with entry.lock:
                entry.bytes_left -= size

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._generation += 1
            for key in list(self._entries):
                self._drop(key)

    def forget(self, key: Key) -> None:
        """Forgets one data key."""
        with self._lock:
            self._drop(key)

    def _refresh_beside(self, key: Key, fetch: Callable[[Key], Value]) -> None:
        if self._fetches.beside(key, partial(self._fetched, fetch)):
            self._count("refreshes_count")

    def _fetched(self, fetch: Callable[[Key], Value], key: Key) -> Entry[Value]:
        """A data key from the mesh; while that is away the one at hand, as long as that may be."""
        generation = self._generation
        try:
            entry = Entry(fetch(key), self._cache, self._monotonic())
        except StrongroomError as error:
            stale = self._after(error, key)
            if stale is None:
                raise
            return stale
        with self._lock:
            # One that was to be forgotten while it was on its way is used by who waits for it, and not kept.
            if self._generation == generation:
                self._keep(key, entry)
        return entry

    def _after(self, error: StrongroomError, key: Key) -> Entry[Value] | None:
        """What is used after a fetch that failed."""
        entry = self._entries.get(key)
        now = self._monotonic()
        self._count("failures_count")
        if error.code.name not in AWAY:
            self.forget(key)
        elif entry is not None and now < entry.stale_until and not entry.is_used_up:
            log.warning("the mesh does not answer: a data key is used longer: %s", error.reason)
            self._count("stale_count")
            entry.prolong(now)
            return entry
        return None

    def _keep(self, key: Key, entry: Entry[Value]) -> None:
        self._drop(key)
        while len(self._entries) >= self._cache.capacity:
            self._drop(next(iter(self._entries)))
            self.evictions_count += 1
        self._entries[key] = entry

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._served_before += entry.served

    def _count(self, name: str) -> None:
        with self._lock:
            setattr(self, name, getattr(self, name) + 1)
