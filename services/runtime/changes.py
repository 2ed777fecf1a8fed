"""Freshness: what a worker caches of keystore's records, and how it learns that they changed.

Every change in keystore has the next number of one revision counter. A worker asks for the changes since the last
revision it has seen, five times a second, and drops what they touch. One that has not reached keystore for five
seconds refuses rather than answer from records that may be stale.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

import grpc

from services.runtime.errors import Reason, StrongroomError, rpc_code
from strongroom.keystore.v1.key_record_service_pb2 import Change, ListChangesRequest, ListChangesResponse

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
STALE_SECONDS = 5.0
_POLL_TIMEOUT_SECONDS = 0.6
_LATEST = -1


class ListChanges(Protocol):
    """`KeyRecordService.ListChanges`, over the network or against the service's own store."""

    def __call__(self, request: ListChangesRequest, /, *, timeout: float) -> ListChangesResponse: ...


class ChangeFeed:
    """Follows keystore's revision counter and tells its listeners what changed."""

    def __init__(self, list_changes: ListChanges, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._list_changes = list_changes
        self._monotonic = monotonic
        self._listeners: list[Callable[[Change], None]] = []
        self._resets: list[Callable[[], None]] = []
        self._reached = monotonic() - 2 * STALE_SECONDS
        self._stopping = threading.Event()
        # One poll at a time: an answer that came late would look like an older database.
        self._polling = threading.Lock()
        self._thread = threading.Thread(target=self._follow, name="change-feed", daemon=True)
        self.lock = threading.Lock()
        self.revision = _LATEST
        """The last revision whose changes every listener has seen. Guarded by `lock`."""

    def listen(self, on_change: Callable[[Change], None], on_reset: Callable[[], None]) -> None:
        """Calls `on_change` for each change, and `on_reset` when changes may have been missed; under `lock`."""
        self._listeners.append(on_change)
        self._resets.append(on_reset)

    def start(self) -> None:
        """Begins to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Ends following."""
        self._stopping.set()
        self._thread.join(timeout=2 * _POLL_TIMEOUT_SECONDS)

    @property
    def age_seconds(self) -> float:
        """How long ago keystore was last reached."""
        return self._monotonic() - self._reached

    def require_fresh(self) -> None:
        """Raises KEYSTORE_STALE when keystore was not reached for five seconds."""
        if self._monotonic() - self._reached > STALE_SECONDS:
            raise StrongroomError(
                Reason.KEYSTORE_STALE,
                f"keystore has not been reached for {STALE_SECONDS:g} s; records may be stale",
                peer="keystore",
            )

    def poll(self) -> None:
        """Asks, and applies everything that changed until then."""
        with self._polling:
            while self._poll_once():
                pass

    def _poll_once(self) -> bool:
        """Applies the next changes; whether there are more."""
        asked = self._monotonic()
        response = self._list_changes(ListChangesRequest(since=self.revision), timeout=_POLL_TIMEOUT_SECONDS)
        with self.lock:
            # An older database was put in place, or this worker was away for longer than changes are kept.
            if response.start_over or response.revision < self.revision:
                log.warning("keystore cannot tell every change; every cached record is dropped")
                for reset in self._resets:
                    reset()
            for change in response.changes:
                for listener in self._listeners:
                    listener(change)
            self.revision = response.revision
        # Only as fresh as the moment we asked.
        self._reached = asked
        return response.more

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                self.poll()
            except grpc.RpcError as error:
                log.debug("keystore not reached", extra={"fields": {"status": rpc_code(error).name}})
            except StrongroomError as error:
                log.debug("keystore not read", extra={"fields": {"reason": error.reason}})
            self._stopping.wait(POLL_SECONDS)


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class FreshCache(Generic[K, V]):
    """Records of keystore, at most as old as the freshness promise allows.

    A record enters only when it was read at a revision that the feed has already applied to this cache, so a change
    that overtakes its own read cannot leave the old record behind. Beyond `capacity` the oldest entry leaves. Threads
    that miss the same record at once wait for one of them to read it.
    """

    def __init__(self, feed: ChangeFeed, capacity: int) -> None:
        self._feed = feed
        self._capacity = capacity
        self._entries: dict[K, V] = {}
        self._reading: dict[K, threading.Lock] = {}
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K, read: Callable[[], tuple[V, int]]) -> V:
        """The record under `key`; on a miss `read` answers it with the revision as of which it was read."""
        self._feed.require_fresh()
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

    def _read(self, key: K, read: Callable[[], tuple[V, int]]) -> V:
        entry, as_of_revision = read()
        with self._feed.lock:
            if as_of_revision >= self._feed.revision:
                self._entries[key] = entry
                while len(self._entries) > self._capacity:
                    self._entries.pop(next(iter(self._entries)))
        return entry

    def drop(self, key: K) -> V | None:
        """Forgets one record and answers it."""
        return self._entries.pop(key, None)

    def clear(self) -> None:
        """Forgets every record."""
        self._entries.clear()
