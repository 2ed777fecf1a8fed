"""Freshness: what a worker caches of records, and how it learns that they changed.

Every change in keystore has the next number of one revision counter. A worker asks for the changes since the last
revision it has seen, five times a second, and drops what they touch. One that has not reached keystore for five
seconds refuses rather than answer from records that may be stale. A service follows the counter of its own database in
the same way; it can always ask that itself, and does once it has not followed for a moment. What it is told is not all
that it goes by: every record is read anew after a while (`Aging`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import grpc

from services.runtime.aging import Aging
from services.runtime.background import Background
from services.runtime.errors import Reason, StrongroomError

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
STALE_SECONDS = 5.0
LATEST = -1
"""Of somebody who has seen nothing, and wants to know where the counter is."""

_POLL_TIMEOUT_SECONDS = 0.6


@dataclass(frozen=True, slots=True)
class Change:
    """One change: its number, and the name of what changed."""

    revision: int
    resource: str
    kind: int = 0
    """What it is that changed, in the words of the database whose counter it is; 0 where that has one kind."""
    account: str = ""
    """The account that it belongs to, where that is told."""
    key_uid: bytes = b""
    """The key that it concerns, where that is told."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since some revision, oldest first."""

    revision: int
    """The last one that is told of."""
    changes: Sequence[Change] = ()
    more: bool = False
    """Whether more has changed after that."""
    start_over: bool = False
    """Whether changes are missing: what was read before counts no more."""


class ListChanges(Protocol):
    """Asks whoever has the counter, over the network or in the service's own store."""

    def __call__(self, since: int, /, *, timeout: float) -> Changes:
        """What has changed since a revision."""


def answer(seen: int, now: int, read: Callable[[], Sequence[Change]]) -> Changes:
    """What is told of a counter that is at `now` to whoever has seen `seen`. `read` finds what changed after that,
    oldest first, as much as fits; what is not kept cannot be told, and the caller has to start over."""
    if seen == LATEST or seen >= now:
        return Changes(now)
    found = read()
    # Numbers have no gaps: the first change after `seen` is the next one, unless it was pruned, or numbers were left
    # out so that everybody starts over. What comes before such a gap is told first.
    whole = [change for place, change in enumerate(found, seen + 1) if change.revision == place]
    if not whole:
        return Changes(now, start_over=True)
    last = whole[-1].revision
    return Changes(last, whole, more=last < now)


class ChangeFeed:
    """Follows a revision counter, keystore's or the own database's, and tells its listeners what changed."""

    def __init__(
        self,
        list_changes: ListChanges,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        peer: str = "keystore",
        stale: Reason = Reason.KEYSTORE_STALE,
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        """`peer` is what tells the changes, and `stale` what `require_fresh` raises while it does not."""
        self._list_changes = list_changes
        self._monotonic = monotonic
        self._peer = peer
        self._stale = stale
        self._stale_seconds = stale_seconds
        self._listeners: list[Callable[[Change], None]] = []
        self._resets: list[Callable[[], None]] = []
        self._aging: list[Aging] = []
        self._reached = monotonic() - 2 * stale_seconds
        self._followed = threading.Event()
        # One poll at a time: an answer that came late would look like an older database.
        self._polling = threading.Lock()
        self._following = Background(
            f"{peer}-changes",
            self.poll,
            f"changes of the {peer} could not be read",
            every=POLL_SECONDS,
            foreseen=(grpc.RpcError,),
            quiet=True,
        )
        self.lock = threading.Lock()
        self.revision = LATEST
        """The last revision whose changes every listener has seen. Guarded by `lock`."""
        self.told = LATEST
        """The last revision that `tell` told of, which the feed itself may still have to come to. Guarded by `lock`."""

    def listen(self, on_change: Callable[[Change], None], on_reset: Callable[[], None]) -> None:
        """Calls `on_change` for each change, and `on_reset` when changes may have been missed; under `lock`."""
        self._listeners.append(on_change)
        self._resets.append(on_reset)

    def age(self, entries: dict[Any, Any], aged: dict[Any, Any] | None = None) -> None:
        """Has each entry of a cache leave after a while, under `lock`: whoever keeps records by what this feed tells
        keeps them no longer than that. Those that left so go to `aged`."""
        self._aging.append(Aging(entries, aged))

    def start(self) -> None:
        """Begins to follow."""
        self._following.start()

    def stop(self) -> None:
        """Ends following."""
        self._following.stop(2 * _POLL_TIMEOUT_SECONDS)

    @property
    def fresh(self) -> bool:
        """Whether the counter was last reached within the time that records may be old."""
        return self._monotonic() - self._reached <= self._stale_seconds

    def wait_until_fresh(self, seconds: float) -> None:
        """Returns once the counter was reached, after that long at the latest."""
        self._followed.wait(seconds)

    def has_applied(self, as_of_revision: int) -> bool:
        """Whether what was read as of a revision may be kept: every change that a listener has heard of is in it. For
        who holds `lock`."""
        return as_of_revision >= max(self.revision, self.told)

    def require_fresh(self) -> None:
        """Raises KEYSTORE_STALE, or the reason for another peer, when that was not reached for five seconds."""
        if not self.fresh:
            raise StrongroomError(
                self._stale,
                f"{self._peer} has not been reached for {self._stale_seconds:g} s; records may be stale",
                peer=self._peer,
            )

    def tell(self, change: Change) -> None:
        """Tells listeners at once of a change that this process has committed itself."""
        with self.lock:
            self.told = max(self.told, change.revision)
            for listener in self._listeners:
                listener(change)

    def poll(self) -> None:
        """Asks, and applies everything that changed until then."""
        with self._polling:
            while self._poll_once():
                pass
            with self.lock:
                for aging in self._aging:
                    aging.let_go(self._monotonic())

    def _poll_once(self) -> bool:
        """Applies the next changes; whether there are more."""
        asked = self._monotonic()
        response = self._list_changes(self.revision, timeout=_POLL_TIMEOUT_SECONDS)
        with self.lock:
            # An older database was put in place, or this worker was away for longer than changes are kept.
            if response.start_over or response.revision < self.revision:
                log.warning(
                    "%s no longer knows every change since the last one read here; all cached records are dropped",
                    self._peer,
                )
                self.told = LATEST
                for reset in self._resets:
                    reset()
            for change in response.changes:
                for listener in self._listeners:
                    listener(change)
            self.revision = response.revision
        # Only as fresh as the moment we asked.
        self._reached = asked
        if not response.more:
            self._followed.set()
        return response.more


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class FreshCache(Generic[K, V]):
    """Records, at most as old as the freshness promise allows.

    A record enters only when it was read at a revision that the feed has already applied to this cache, so a change
    that overtakes its own read cannot leave the old record behind. Beyond `capacity` the oldest entry leaves. Threads
    that miss the same record at once wait for one of them to read it. That there is none (None) is never kept.

    While the feed is not fresh a cache refuses as that does; one that `reads_when_stale` reads each time. One that
    `keeps_aged` has what left for its age at hand for who reads it again, within its capacity.
    """

    def __init__(
        self, feed: ChangeFeed, capacity: int, *, reads_when_stale: bool = False, keeps_aged: bool = False
    ) -> None:
        self._feed = feed
        self._capacity = capacity
        self._reads_when_stale = reads_when_stale
        self._entries: dict[K, V] = {}
        self._reading: dict[K, threading.Lock] = {}
        self.hits = 0
        self.misses = 0
        self._aged: dict[K, V] = {}
        feed.age(self._entries, self._aged if keeps_aged else None)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def get(self, key: K, read: Callable[[], tuple[V, int]]) -> V:
        """The record under `key`; on a miss `read` answers it with the revision as of which it was read."""
        if not self._reads_when_stale:
            self._feed.require_fresh()
        elif not self._feed.fresh:
            return read()[0]
        entry = self._entries.get(key)
        if entry is not None:
            self.hits += 1
            return entry
        self.misses += 1
        with self._reading.setdefault(key, threading.Lock()):
            entry = self._entries.get(key)
            try:
                return entry if entry is not None else self._read(key, read)
            finally:
                self._reading.pop(key, None)

    def look(self, key: K, read: Callable[[], tuple[V, int]]) -> tuple[V, bool]:
        """What `get` answers, and whether this thread had to read it."""
        asked = False

        def noting() -> tuple[V, int]:
            nonlocal asked
            asked = True
            return read()

        return self.get(key, noting), asked

    def _read(self, key: K, read: Callable[[], tuple[V, int]]) -> V:
        entry, as_of_revision = read()
        with self._feed.lock:
            if entry is not None and self._feed.has_applied(as_of_revision):
                self._aged.pop(key, None)
                self._entries[key] = entry
                while len(self._entries) + len(self._aged) > self._capacity:
                    oldest = self._aged or self._entries
                    oldest.pop(next(iter(oldest)))
        return entry

    def peek(self, key: K) -> V | None:
        """The record under `key` if it is here, however old it is: for what nothing is permitted by."""
        return self._entries.get(key)

    def aged(self, key: K) -> V | None:
        """A record that left for its age and for nothing else: what was made of it is good for the same record, read
        again. It is here until that is."""
        return self._aged.get(key)

    def drop(self, key: K) -> V | None:
        """Forgets one record and answers it."""
        self._aged.pop(key, None)
        return self._entries.pop(key, None)

    def clear(self) -> None:
        """Forgets every record."""
        self._aged.clear()
        self._entries.clear()
