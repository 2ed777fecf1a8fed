"""The sequencer: gives every event its place in the log, in durable groups."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError, IntegrityError

from services.audit.index import Index
from services.audit.keys_store import KeysStore
from services.audit.sealing import SEALING_BYTES, Sealer, SealingKey, nonces
from services.audit.storage import Storage
from services.audit.store import Head, LeafRow, LogStore
from services.audit.tokens import Tokens
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError, too_large
from strongroom.audit.v1.event_pb2 import Event
from strongroom.tlog import merkle
from strongroom.tlog.text import HASH_BYTES
from strongroom.tlog.tiles import HEIGHT, MAX_ENTRY_BYTES, WIDTH, count_at
from strongroom.tlog.tree import Tree

log = logging.getLogger(__name__)

_PROBE_IS_NEEDLESS_NS = 1_000_000_000
_LEVELS = 8
_MAX_EVENT_BYTES = MAX_ENTRY_BYTES - SEALING_BYTES
_DECIDED_BY_SHORTENED = 1_000


class _Batch:
    """The events of one append call, on their way into the log."""

    __slots__ = ("done", "error", "events", "indexes", "resent")

    def __init__(self, events: Sequence[Event], *, resent: bool) -> None:
        self.events = events
        self.resent = resent
        self.indexes: list[int] = []
        self.error: StrongroomError | None = None
        self.done = False


@dataclass(slots=True)
class _Group:
    """What one transaction adds."""

    head: Head
    rows: list[LeafRow] = field(default_factory=list)
    keys: dict[str, SealingKey] = field(default_factory=dict)


class Log:
    """The log's one writer. Threads that append together commit together: whoever gets the lock first writes what
    all of them brought, the others find their work done."""

    def __init__(
        self,
        store: LogStore,
        keys: KeysStore,
        sealer: Sealer,
        tokens: Tokens,
        index: Index,
        storage: Storage,
        wall_clock: Clock,
    ) -> None:
        self._store = store
        self._keys = keys
        self._sealer = sealer
        self._tokens = tokens
        self._index = index
        self._storage = storage
        self._clock = wall_clock
        self._waiting: deque[_Batch] = deque()
        self._lock = threading.Lock()
        self._written_ns = 0
        self._refusal: StrongroomError | None = None
        self._head, self._tree = _recovered(store)
        self._grown = threading.Condition()
        index.load(self._head.size)

    @property
    def size(self) -> int:
        """How many leaves the log has."""
        return self._head.size

    @property
    def tree(self) -> Tree:
        """The Merkle tree of the leaves that are durable."""
        return self._tree

    def append(self, events: Sequence[Event], *, resent: bool = False) -> list[int]:
        """Returns the events' places in the log once they are durable. An event that is there already keeps its place.

        Raises AUDIT_STORAGE_FULL, AUDIT_STORAGE_FAILED or AUDIT_SEALING_KEY_UNAVAILABLE; then none was added.
        FIELD_TOO_LARGE for an event that no leaf can hold.
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
        self._tokens.check()
        with self._lock:
            self._require_writable()
            now = self._clock()
            if now - self._written_ns > _PROBE_IS_NEEDLESS_NS:
                self._store.probe(now // 1000)
                self._written_ns = now

    def wait_for_growth(self, size: int, seconds: float) -> int:
        """Returns once the log has more than `size` leaves, or after that long; how many it has."""
        with self._grown:
            self._grown.wait_for(lambda: self._head.size > size, seconds)
        return self._head.size

    def exclusively(self, work: Callable[[], object]) -> None:
        """Runs `work` while nothing is appended."""
        with self._lock:
            work()

    def close(self) -> None:
        """Gives the database back what the writer keeps."""
        with self._lock:
            self._store.close()

    def _taken(self) -> list[_Batch]:
        return [self._waiting.popleft() for _ in range(len(self._waiting))]

    def _require_writable(self) -> None:
        if self._refusal is not None:
            raise self._refusal
        self._storage.check()

    def _write(self, batches: list[_Batch]) -> None:
        # Until the commit has returned, every batch stands as failed, whatever happens on the way there.
        error = StrongroomError(Reason.AUDIT_STORAGE_FAILED, "the audit log could not be written", peer="audit")
        for batch in batches:
            batch.done, batch.error = True, error
        try:
            self._require_writable()
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
        return self._store.known([event_key(event) for batch in batches for event in batch.events])

    def _commit(self, batches: list[_Batch], known: dict[bytes, int]) -> None:
        group = self._sealed(batches, known)
        if not group.rows:
            return
        hashes = merkle.leaf_hashes(row[5] for row in group.rows)
        tree, tiles = self._tree.grown(hashes)
        head = Head(tree.size, group.head.high_us, hashes[-1])
        unsaved = [key for key in group.keys.values() if not self._sealer.is_stored(key)]
        with self._store.appending() as connection:
            # First, so that it fails before anything else when the log is not what it was.
            if not self._store.move_head(connection, self._head, head):
                self._refuse()
            for key in unsaved:
                self._keys.insert_sealing_key(connection, key.wrapped)
            self._store.insert_leaves(connection, group.rows)
            self._store.put_tiles(connection, tiles)
            indexed = self._index.write(connection, len(group.rows))
        for key in unsaved:
            self._sealer.stored(key)
        first, self._head, self._tree = self._head.size, head, tree
        self._written_ns = self._clock()
        self._index.written(indexed)
        self._index.note(first, [row[4] for row in group.rows])
        with self._grown:
            self._grown.notify_all()

    def _sealed(self, batches: list[_Batch], known: dict[bytes, int]) -> _Group:
        """The leaves that are new, each event's place noted in its batch."""
        group = _Group(self._head)
        index, high_us, keys = self._head.size, self._head.high_us, group.keys
        tokens_of, nonce = self._tokens.of, nonces(sum(len(batch.events) for batch in batches))
        for batch in batches:
            batch.indexes = []
            for event in batch.events:
                key_of_event = event_key(event)
                place = known.get(key_of_event)
                if place is None:
                    key = keys.get(event.account)
                    if key is None:
                        key = keys[event.account] = self._sealer.key_for(event.account)
                    leaf = key.seal(_serialized(event), next(nonce))
                    time = event.time
                    time_us = time.seconds * 1_000_000 + time.nanos // 1000
                    if time_us > high_us:
                        high_us = time_us
                    group.rows.append((index, key_of_event, time_us, high_us, tokens_of(event), leaf))
                    place = known[key_of_event] = index
                    index += 1
                batch.indexes.append(place)
        group.head = Head(index, high_us)
        return group

    def _refuse(self) -> None:
        """The head is elsewhere: another wrote to the log, or the database is an older one. From then on every append
        is refused; a restart looks at what is there."""
        self._refusal = StrongroomError(
            Reason.AUDIT_STORAGE_FAILED,
            f"the audit log does not end at {self._head.size} any more: its database was rolled back, replaced, or "
            "written by another",
            peer="audit",
        )
        raise self._refusal


def _serialized(event: Event) -> bytes:
    """An event's bytes, which fit into a leaf. One that names very many policies names the first of them: it must not
    keep the events that came with it out of the log. Raises FIELD_TOO_LARGE."""
    data = event.SerializeToString()
    if len(data) > _MAX_EVENT_BYTES:
        event.decided_by = f"{event.decided_by[:_DECIDED_BY_SHORTENED]}…"
        data = event.SerializeToString()
        if len(data) > _MAX_EVENT_BYTES:
            raise too_large("events", _MAX_EVENT_BYTES)
    return data


def event_key(event: Event) -> bytes:
    """An event's id as the database keeps it."""
    return bytes.fromhex(event.id.replace("-", ""))


def _recovered(store: LogStore) -> tuple[Head, Tree]:
    """Where the log ends, and the tree's edge, from the database. Raises AUDIT_STORAGE_FAILED when they contradict
    each other."""
    head = store.head()
    filling = merkle.leaf_hashes(store.entries(head.size // WIDTH * WIDTH, head.size))
    edge = [filling]
    for level in range(1, _LEVELS):
        count = count_at(level, head.size)
        hashes = b"" if count % WIDTH == 0 else store.tile(level, count >> HEIGHT) or b""
        edge.append([hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)])
    missing = [level for level, hashes in enumerate(edge) if len(hashes) != count_at(level, head.size) % WIDTH]
    last = store.entries(head.size - 1, head.size)
    if missing or [merkle.leaf_hash(leaf) for leaf in last] != [head.last_hash][: head.size]:
        raise StrongroomError(
            Reason.AUDIT_STORAGE_FAILED, f"the audit database is damaged at its end, leaf {head.size}", peer="audit"
        )
    while edge and not edge[-1]:
        edge.pop()
    return head, Tree(head.size, edge)
