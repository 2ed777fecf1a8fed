"""What a log shows of itself to anyone who is known: checkpoints, tiles, proofs."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from services.audit.publication.publishing import Publisher
from services.audit.publication.store import PublicationStore, SignedCheckpoint
from services.audit.publication.tile_source import TileSource, not_found
from services.audit.reading.events import Events
from services.runtime.errors import Reason, StrongroomError
from strongroom.errors import StrongroomError as MalformedError
from strongroom.tlog import tiles
from strongroom.tlog.proofs import Proof
from strongroom.tlog.tiles import TilePath

LONGEST_WAIT_SECONDS = 5.0
# Each holds a thread; those beyond are answered at once.
_MOST_WAITING = 16


@dataclass(frozen=True, slots=True)
class Inclusion:
    """That an event is in the log: its leaf, its place, and how its hash leads to a checkpoint."""

    leaf: bytes
    proof: Proof
    checkpoint: SignedCheckpoint


@dataclass(frozen=True, slots=True)
class Consistency:
    """That the log of an earlier size is the beginning of a checkpoint's."""

    from_size: int
    from_root: bytes
    hashes: list[bytes]
    checkpoint: SignedCheckpoint


class Transparency:
    """One log's."""

    def __init__(self, publisher: Publisher, store: PublicationStore, source: TileSource, events: Events) -> None:
        self._publisher = publisher
        self._store = store
        self._source = source
        self._events = events
        self._places = threading.BoundedSemaphore(_MOST_WAITING)

    def checkpoint(self, *, include_unpublished: bool = False) -> SignedCheckpoint:
        """The newest. Raises CHECKPOINT_NOT_FOUND while there is none."""
        newest = self._publisher.signed if include_unpublished else self._publisher.published
        if newest is None:
            raise StrongroomError(Reason.CHECKPOINT_NOT_FOUND, "the log has no checkpoint yet")
        return newest

    def inclusion(
        self, account: str, event_id: str, tree_size: int, patience_seconds: float = LONGEST_WAIT_SECONDS
    ) -> Inclusion:
        """The proof for an event, to the checkpoint of `tree_size`, or to the newest once it covers the event.

        Raises EVENT_NOT_FOUND, EVENT_UNPUBLISHED, TREE_SIZE_INVALID.
        """
        leaf = self._events.leaf(account, event_id)
        if tree_size:
            checkpoint = self._signed_at(tree_size)
            if tree_size <= leaf.leaf_index:
                raise _size_invalid("tree_size", f"does not cover the event, which is at {leaf.leaf_index}")
        else:
            published = self._published(leaf.leaf_index + 1, patience_seconds)
            if published is None:
                raise StrongroomError(Reason.EVENT_UNPUBLISHED, "no published checkpoint covers the event yet")
            checkpoint = published
        hashes = self._source.proofs(checkpoint.tree_size).inclusion(leaf.leaf_index)
        return Inclusion(leaf.leaf, Proof(leaf.leaf_index, hashes, checkpoint.note, leaf.leaf), checkpoint)

    def consistency(self, from_size: int, to_size: int) -> Consistency:
        """From an earlier size to that of a checkpoint, the newest for 0. Raises TREE_SIZE_INVALID."""
        checkpoint = self._signed_at(to_size) if to_size else self.checkpoint()
        if not 1 <= from_size <= checkpoint.tree_size:
            raise _size_invalid("from_size", f"is not 1 to {checkpoint.tree_size}")
        proofs = self._source.proofs(checkpoint.tree_size)
        return Consistency(from_size, proofs.root(from_size), proofs.consistency(from_size), checkpoint)

    def tile(self, path: str) -> bytes:
        """A tile or entry bundle that the newest checkpoint covers. Raises FIELD_INVALID, TILE_NOT_FOUND."""
        try:
            parsed = tiles.parse_path(path)
        except MalformedError as error:
            raise StrongroomError(Reason.FIELD_INVALID, error.message, field="path") from error
        return self._source.read(self._covered(parsed))

    def _covered(self, path: TilePath) -> TilePath:
        newest = self._publisher.published
        size = newest.tree_size if newest else 0
        if path.end > tiles.count_at(path.level or 0, size):
            raise not_found(path)
        return path

    def _published(self, size: int, seconds: float) -> SignedCheckpoint | None:
        if not self._places.acquire(blocking=False):
            return self._publisher.wait_until_published(size, 0)
        try:
            return self._publisher.wait_until_published(size, seconds)
        finally:
            self._places.release()

    def _signed_at(self, tree_size: int) -> SignedCheckpoint:
        checkpoint = self._store.at(tree_size)
        if checkpoint is None or not checkpoint.published:
            raise _size_invalid("tree_size", "is not that of a published checkpoint")
        return checkpoint


def _size_invalid(field: str, why: str) -> StrongroomError:
    return StrongroomError(Reason.TREE_SIZE_INVALID, f"{field} {why}", field=field)
