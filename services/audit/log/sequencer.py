"""The sequencer: gives every event its place in the log, in durable groups.

A log has one writer at a time, which the database itself sees to: whoever takes over counts the writers up, and an
append moves the log's end only as the newest of them, from where it believes it to be. An append whose COMMIT was not
answered is in doubt: where the log ends tells whether it happened, and it is acknowledged once, or written once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

from services.audit.index.tokens import Tokens
from services.audit.index.tree import Index
from services.audit.keys.sealing import Sealer, SealingKey, nonces
from services.audit.keys.store import WrappedKeys
from services.audit.log.endings import Compare, Endings, Refusal, ended
from services.audit.log.entries import event_key, event_time_us, serialized
from services.audit.log.recovery import recovered
from services.audit.storage.files import Storage
from services.audit.storage.store import Head, LeafRow, LogStore, Standing
from services.runtime.background import Background
from services.runtime.errors import Reason, StrongroomError
from services.runtime.event_bounds import MAX_APPEND_EVENTS
from strongroom.audit.v1.event_pb2 import Event
from strongroom.tlog import merkle
from strongroom.tlog.tree import Tree

log = logging.getLogger(__name__)

_PROBE_IS_NEEDLESS_SECONDS = 0.4
_BEAT_SECONDS = 0.5
# As many as one append may bring, and some.
_MOST_EVENTS = 4 * MAX_APPEND_EVENTS

Archived = Callable[[Sequence[Event]], Mapping[bytes, int]]
"""Which of some events are in the log and have no row any more, by their keys, and where."""


def _nothing(_events: Sequence[Event]) -> Mapping[bytes, int]:
    return {}


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


@dataclass(slots=True)
class _Addition:
    """What one transaction adds, to be taken up once it is known to have happened."""

    first: int
    head: Head
    tree: Tree
    tokens: Sequence[bytes]
    new_keys: Sequence[SealingKey]
    indexed: int = 0


class Log:
    """The log's one writer. Threads that append together commit together: whoever gets the lock first writes what
    all of them brought, the others find their work done."""

    def __init__(
        self,
        store: LogStore,
        keys: WrappedKeys,
        sealer: Sealer,
        tokens: Tokens,
        index: Index,
        storage: Storage,
        endings: Endings | None = None,
        archived: Archived = _nothing,
    ) -> None:
        """Takes the log over from whoever wrote it before."""
        self._store = store
        self._keys = keys
        self._sealer = sealer
        self._tokens = tokens
        self._index = index
        self._storage = storage
        self._archived = archived
        self._waiting: deque[_Batch] = deque()
        self._lock = threading.Lock()
        self._endings = endings or Endings()
        # On the monotonic clock: a log falls silent for nobody who sets the time of day.
        self._written = -_PROBE_IS_NEEDLESS_SECONDS
        self._refusal: Refusal | None = None
        self._compare: Compare = lambda _: None
        self._doubtful: _Addition | None = None
        self._epoch = store.take_over()
        self._head, self._tree = recovered(store)
        self._grown = threading.Condition()
        self._beating = self._beats()
        # From now on: a standby takes over from one that is silent for long, and loading can take long.
        self._beating.start()
        try:
            index.load(self._head.size)
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """How many leaves the log has."""
        return self._head.size

    @property
    def tree(self) -> Tree:
        """The Merkle tree of the leaves that are durable."""
        return self._tree

    def compared_by(self, compare: Compare) -> None:
        """Has `compare` find out, where the log does not end where it should, whether that contradicts what was
        signed."""
        self._compare = compare

    def append(self, events: Sequence[Event], *, resent: bool = False) -> list[int]:
        """Returns the events' places in the log once they are durable. An event that is there already keeps its place.

        Raises AUDIT_STORAGE_FULL, AUDIT_STORAGE_FAILED or AUDIT_SEALING_KEY_UNAVAILABLE; then none was added.
        """
        batch = _Batch(events, resent=resent)
        self._waiting.append(batch)
        with self._lock:
            while not batch.done:
                self._write(self._taken())
        if batch.error is not None:
            raise batch.error.renewed()
        return batch.indexes

    def check(self) -> None:
        """Raises as `append` would when the log cannot be written just now; writes only if nothing did of late."""
        self._sealer.check()
        self._tokens.check()
        self._beat()

    def hand_over(self) -> None:
        """Appends no more, so that another process may: what was acknowledged is durable, callers try again there."""
        with self._lock:
            self._refusal = (Reason.AUDIT_UNREACHABLE, "the audit log was handed over to another process")

    def wait_for_growth(self, size: int, seconds: float) -> int:
        """Returns once the log has more than `size` leaves, or after that long; how many it has."""
        with self._grown:
            self._grown.wait_for(lambda: self._head.size > size, seconds)
        return self._head.size

    def exclusively(self, work: Callable[[], object]) -> None:
        """Runs `work` while nothing is appended."""
        with self._lock:
            work()

    @contextmanager
    def changing(self) -> Iterator[Connection]:
        """A durable transaction that changes something beside the leaves, while nothing is appended and as long as no
        other process writes the log and it ends where this one left it. Raises as `append`."""
        with self._lock:
            self._require_writable()
            with self._as_left() as connection:
                yield connection

    @contextmanager
    def attesting(self) -> Iterator[Connection]:
        """A durable transaction for what is signed of the log, also once it was handed over, until another
        process writes. Raises as `append`."""
        with self._lock, self._as_left() as connection:
            yield connection

    def close(self) -> None:
        """Gives the database back what the writer keeps."""
        self._beating.stop(_BEAT_SECONDS)
        with self._lock:
            self._store.close()

    @contextmanager
    def _as_left(self) -> Iterator[Connection]:
        self._settle()
        with self._store.writing() as connection:
            if self._store.is_written_by(connection, self._epoch, self._head):
                yield connection
                return
        raise self._moved()

    def _taken(self) -> list[_Batch]:
        """What waits, oldest first, as much as one transaction should hold."""
        taken: list[_Batch] = []
        events = 0
        while self._waiting and (not taken or events + len(self._waiting[0].events) <= _MOST_EVENTS):
            taken.append(self._waiting.popleft())
            events += len(taken[-1].events)
        return taken

    def _require_writable(self) -> None:
        if self._refusal is not None:
            raise self._refused()
        self._storage.check()

    def _refused(self) -> StrongroomError:
        assert self._refusal is not None  # noqa: S101  # its callers know
        reason, message = self._refusal
        return StrongroomError(reason, message, peer="audit")

    def _beats(self) -> Background:
        """The signs of life of this writer: another process takes the log over from one that gives none."""
        return Background(
            "audit-writer",
            self._beat,
            "the writer of the audit log could not show that it is alive",
            every=_BEAT_SECONDS,
            first=_BEAT_SECONDS,
            quiet=True,
        )

    def _beat(self) -> None:
        with self._lock:
            self._require_writable()
            self._settle()
            now = time.monotonic()
            if now - self._written > _PROBE_IS_NEEDLESS_SECONDS:
                if not self._store.beat(self._epoch, self._head):
                    raise self._moved()
                self._written = now

    def _write(self, batches: list[_Batch]) -> None:
        # Until the commit has returned, every batch stands as failed, whatever happens on the way there.
        error = StrongroomError(Reason.AUDIT_STORAGE_FAILED, "the audit log could not be written", peer="audit")
        for batch in batches:
            batch.done, batch.error = True, error
        try:
            self._require_writable()
            self._settle()
            try:
                resent = any(batch.resent for batch in batches)
                self._commit(batches, self._known(batches) if resent else self._known_of_old(batches))
            except IntegrityError:
                # A repeat that was not marked as one.
                self._commit(batches, self._known(batches))
            except (StrongroomError, DBAPIError):
                if self._doubtful is None:
                    raise
                # COMMIT was not answered. What happened is known as soon as the database answers again.
                self._settle()
                self._commit(batches, self._known(batches))
        except (StrongroomError, DBAPIError) as failure:
            if isinstance(failure, StrongroomError):
                error = failure
                log.warning("events were not appended to the audit log", extra={"fields": {"reason": error.reason}})
            else:
                log.exception("events were not appended to the audit log")
            for batch in batches:
                batch.error = error
        else:
            for batch in batches:
                batch.error = None

    def _known(self, batches: list[_Batch]) -> dict[bytes, int]:
        found = self._store.known([event_key(event) for batch in batches for event in batch.events])
        return {**self._known_of_old(batches), **found}

    def _known_of_old(self, batches: list[_Batch]) -> dict[bytes, int]:
        # No constraint finds these, whoever sends one again.
        return dict(self._archived([event for batch in batches for event in batch.events]))

    def _commit(self, batches: list[_Batch], known: dict[bytes, int]) -> None:
        group = self._sealed(batches, known)
        if not group.rows:
            return
        hashes = merkle.leaf_hashes(row[5] for row in group.rows)
        tree, tiles = self._tree.grown(hashes)
        head = Head(tree.size, group.head.high_us, hashes[-1])
        unsaved = [key for key in group.keys.values() if not self._sealer.is_stored(key)]
        addition = _Addition(self._head.size, head, tree, [row[4] for row in group.rows], unsaved)
        with self._store.appending() as connection:
            # First, so that nothing else is tried when the log is not what it was.
            moved = self._store.move_head(connection, self._head, head, self._epoch)
            if moved:
                for key in unsaved:
                    self._keys.insert_sealing_key(connection, key.wrapped)
                self._store.insert_leaves(connection, group.rows)
                self._store.put_tiles(connection, tiles)
                addition.indexed = self._index.write(connection, len(group.rows))
                self._doubtful = addition
        if not moved:
            raise self._moved()
        self._take_up(addition)

    def _take_up(self, addition: _Addition) -> None:
        """What was added is durable."""
        self._doubtful = None
        for key in addition.new_keys:
            self._sealer.stored(key)
        self._head, self._tree = addition.head, addition.tree
        self._written = time.monotonic()
        self._index.written(addition.indexed)
        self._index.note(addition.first, addition.tokens)
        with self._grown:
            self._grown.notify_all()

    def _settle(self) -> None:
        """Finds out whether an addition whose COMMIT was not answered happened. Raises as `append`."""
        doubtful = self._doubtful
        if doubtful is None:
            return
        standing = self._store.standing()
        if standing.epoch == self._epoch and standing.head == doubtful.head:
            self._take_up(doubtful)
        elif standing.epoch == self._epoch and standing.head == self._head:
            self._doubtful = None
        else:
            raise self._ended(standing)
        log.info(
            "the database did not answer a commit; it is known now whether it happened",
            extra={"fields": {"happened": standing.head == doubtful.head}},
        )

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
                    leaf = key.seal(serialized(event), next(nonce))
                    time_us = event_time_us(event)
                    high_us = max(high_us, time_us)
                    group.rows.append((index, key_of_event, time_us, high_us, tokens_of(event), leaf))
                    place = known[key_of_event] = index
                    index += 1
                batch.indexes.append(place)
        group.head = Head(index, high_us)
        return group

    def _moved(self) -> StrongroomError:
        """Why the log cannot be written as this process would: to be raised."""
        return self._ended(self._store.standing())

    def _ended(self, standing: Standing) -> StrongroomError:
        """Ends writing for good. Callers find the log where it is written next, unless only a person can say where."""
        if self._refusal is None:
            left_at = self._head.size
            self._refusal = ended(self._store, standing, self._epoch, left_at, self._endings, self._compare)
        return self._refused()
