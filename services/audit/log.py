"""The sequencer: gives every event its place in the log, in durable groups."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.exc import DBAPIError, IntegrityError

from services.audit.sealing import Sealer, SealingKey
from services.audit.store import LogStore
from services.runtime import clock
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from strongroom.audit.v1.event_pb2 import Event

log = logging.getLogger(__name__)

_PROBE_IS_NEEDLESS_NS = 1_000_000_000


class _Batch:
    """The events of one append call, on their way into the log."""

    __slots__ = ("done", "error", "events", "indexes", "resent")

    def __init__(self, events: Sequence[Event], *, resent: bool) -> None:
        self.events = events
        self.resent = resent
        self.indexes: list[int] = []
        self.error: StrongroomError | None = None
        self.done = False


class Log:
    """The log's one writer. Threads that append together commit together: whoever gets the lock first writes what
    all of them brought, the others find their work done."""

    def __init__(self, store: LogStore, sealer: Sealer, wall_clock: Clock) -> None:
        self._store = store
        self._sealer = sealer
        self._clock = wall_clock
        self._size = store.size()
        self._waiting: deque[_Batch] = deque()
        self._lock = threading.Lock()
        self._written_ns = 0

    @property
    def size(self) -> int:
        """How many leaves the log has."""
        return self._size

    def append(self, events: Sequence[Event], *, resent: bool = False) -> list[int]:
        """Returns the events' places in the log once they are durable. An event that is there already keeps its place.

        Raises AUDIT_STORAGE_FULL, AUDIT_STORAGE_FAILED or AUDIT_SEALING_KEY_UNAVAILABLE; then none was added.
        """
        batch = _Batch(events, resent=resent)
        self._waiting.append(batch)
        with self._lock:
            if not batch.done:
                self._write(self._taken())
        if batch.error is not None:
            raise batch.error
        return batch.indexes

    def check(self) -> None:
        """Raises as `append` would when the log cannot be written just now; writes only if nothing did of late."""
        self._sealer.check()
        with self._lock:
            now = self._clock()
            if now - self._written_ns > _PROBE_IS_NEEDLESS_NS:
                self._store.probe(now // 1000)
                self._written_ns = now

    def _taken(self) -> list[_Batch]:
        return [self._waiting.popleft() for _ in range(len(self._waiting))]

    def _write(self, batches: list[_Batch]) -> None:
        # Until the commit has returned, every batch stands as failed, whatever happens on the way there.
        error = StrongroomError(Reason.AUDIT_STORAGE_FAILED, "the audit log could not be written", peer="audit")
        for batch in batches:
            batch.done, batch.error = True, error
        try:
            try:
                self._commit(batches, self._known(batches) if any(batch.resent for batch in batches) else {})
            except IntegrityError:
                # A repeat that was not marked as one.
                self._commit(batches, self._known(batches))
        except (StrongroomError, DBAPIError) as failure:
            if isinstance(failure, StrongroomError):
                error = failure
            log.exception("append failed")
            for batch in batches:
                batch.error = error
        else:
            for batch in batches:
                batch.error = None

    def _known(self, batches: list[_Batch]) -> dict[bytes, int]:
        return self._store.known([_event_key(event) for batch in batches for event in batch.events])

    def _commit(self, batches: list[_Batch], known: dict[bytes, int]) -> None:
        index = self._size
        rows = []
        keys: dict[str, SealingKey] = {}
        for batch in batches:
            batch.indexes = []
            for event in batch.events:
                event_key = _event_key(event)
                if event_key in known:
                    batch.indexes.append(known[event_key])
                    continue
                key = keys.get(event.account)
                if key is None:
                    key = keys[event.account] = self._sealer.key_for(event.account)
                rows.append(
                    {
                        "leaf_index": index,
                        "event_id": event_key,
                        "account": event.account,
                        "time_us": clock.microseconds(event.time),
                        "leaf": key.seal(event.SerializeToString()),
                    }
                )
                known[event_key] = index
                batch.indexes.append(index)
                index += 1
        if not rows:
            return
        unsaved = [key for key in keys.values() if not self._sealer.is_stored(key)]
        with self._store.writing() as connection:
            for key in unsaved:
                self._store.insert_key(connection, key.wrapped)
            self._store.insert_leaves(connection, rows)
        for key in unsaved:
            self._sealer.stored(key)
        self._size = index
        self._written_ns = self._clock()


def _event_key(event: Event) -> bytes:
    return UUID(event.id).bytes
