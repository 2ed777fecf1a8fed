"""Publishes the log: signs a checkpoint soon after it grew."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy.exc import IntegrityError

from services.audit.keys.signing import SigningKeys
from services.audit.log.changes import Changes
from services.audit.log.sequencer import Log
from services.audit.publication.store import PublicationStore, SignedCheckpoint
from services.audit.publication.tile_source import TileSource
from services.runtime.background import Background
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from strongroom.tlog.checkpoints import Checkpoint
from strongroom.tlog.notes import Note

log = logging.getLogger(__name__)

_IDLE_SECONDS = 0.1

Published = Callable[[SignedCheckpoint], None]


@dataclass(frozen=True, slots=True)
class Publication:
    """How a log is published. `interval_seconds` is from one checkpoint to the next, while the log grows."""

    origin: str
    interval_seconds: float
    quorum: int = 0
    """How many witnesses must cosign a checkpoint before it counts as published."""


class Publisher:
    """Signs checkpoints, and tells `listeners` of each that is signed and of each that is published."""

    def __init__(
        self,
        publication: Publication,
        source: Log,
        changes: Changes,
        store: PublicationStore,
        keys: SigningKeys,
        clock: Clock,
    ) -> None:
        self._publication = publication
        self._log = source
        self._changes = changes
        self._store = store
        self._keys = keys
        self._clock = clock
        self._changed = threading.Condition()
        self._signed_listeners: list[Published] = []
        self._published_listeners: list[Published] = []
        self._signed: SignedCheckpoint | None = None
        self._published: SignedCheckpoint | None = None
        # Whatever fails, the next checkpoint is tried; clients see how old the newest is.
        self._publishing = Background(
            "audit-publisher",
            self._sign_when_grown,
            "no checkpoint of the audit log could be signed or published",
            every=0.0,
            again=publication.interval_seconds,
            finishes=True,
        )

    @property
    def quorum(self) -> int:
        """How many witnesses must cosign a checkpoint before it counts as published."""
        return self._publication.quorum

    @property
    def published(self) -> SignedCheckpoint | None:
        """The newest checkpoint that is published."""
        return self._published

    @property
    def signed(self) -> SignedCheckpoint | None:
        """The newest checkpoint, published or not."""
        return self._signed

    def listen(self, *, on_signed: Sequence[Published] = (), on_published: Sequence[Published] = ()) -> None:
        """Calls these with each checkpoint from now on, in the thread that signed it or brought its cosignatures."""
        self._signed_listeners += on_signed
        self._published_listeners += on_published

    def start(self, tiles: TileSource) -> None:
        """Begins to publish. Raises AUDIT_STORAGE_FAILED when the log does not go on from its newest checkpoint."""
        self._published = self._store.newest(published=True)
        self._signed = self._store.newest(published=False)
        compare = partial(self._require_continued, tiles)
        compare(self._log.size)
        self._log.compared_by(compare)
        self._publishing.start()

    def stop(self) -> None:
        """Signs what is not covered yet, and ends."""
        self._publishing.stop()

    def wait_until_published(self, size: int, seconds: float) -> SignedCheckpoint | None:
        """The newest published checkpoint once it covers `size` leaves; None when none does after that long."""
        with self._changed:
            self._changed.wait_for(lambda: self._published is not None and self._published.tree_size >= size, seconds)
            published = self._published
        return published if published is not None and published.tree_size >= size else None

    def sign(self) -> None:
        """Signs the log as it is now, unless the newest checkpoint covers it or no key is at hand."""
        tree, signers = self._log.tree, self._keys.signers()
        covered = self._signed.tree_size if self._signed else 0
        if tree.size == covered or not signers:
            return
        root = tree.root()
        text = Checkpoint(self._publication.origin, tree.size, root).text
        note = Note(text, [signer.sign(text) for signer in signers])
        published = self._publication.quorum == 0
        checkpoint = self._kept(SignedCheckpoint(tree.size, root, self._clock.now_us(), bytes(note), "", published))
        self._signed = checkpoint
        for listener in self._signed_listeners:
            listener(checkpoint)
        if checkpoint.published:
            self._publish(checkpoint)

    def _require_continued(self, tiles: TileSource, size: int) -> None:
        """Raises AUDIT_STORAGE_FAILED, or TILE_NOT_FOUND, where the log of `size` leaves, as it is in the database,
        does not go on from the newest checkpoint that this process has signed or found there."""
        newest = self._signed
        if newest is not None and not tiles.afresh().has(size, newest.tree_size, newest.root_hash):
            raise _contradicted(newest.tree_size)

    def _kept(self, checkpoint: SignedCheckpoint) -> SignedCheckpoint:
        """It, or the one of this size that is there already: the answer to its COMMIT was lost, or it is by the writer
        before this one. Raises AUDIT_STORAGE_FAILED where that is of another tree, and as `Log.append`."""
        try:
            # Never a checkpoint of leaves that the database has lost meanwhile.
            with self._log.attesting() as connection:
                self._store.insert(connection, checkpoint)
        except IntegrityError:
            there = self._store.at(checkpoint.tree_size)
            if there is None or there.root_hash != checkpoint.root_hash:
                raise _contradicted(checkpoint.tree_size) from None
            return there
        return checkpoint

    def cosigned(self, checkpoint: SignedCheckpoint, call: Call | None = None) -> None:
        """Keeps cosignatures, by a call with the event that records it, and publishes the checkpoint when that is
        due."""
        with self._changes.recorded(call) if call is not None else self._log.changing() as connection:
            self._store.cosigned(connection, checkpoint)
        newest = self._published
        if checkpoint.published and (newest is None or checkpoint.tree_size >= newest.tree_size):
            self._publish(checkpoint)

    def _publish(self, checkpoint: SignedCheckpoint) -> None:
        with self._changed:
            self._published = checkpoint
            self._changed.notify_all()
        for listener in self._published_listeners:
            listener(checkpoint)

    def _sign_when_grown(self) -> float | None:
        covered = self._signed.tree_size if self._signed else 0
        if not self._publishing.stopping and self._log.wait_for_growth(covered, _IDLE_SECONDS) <= covered:
            return None
        self.sign()
        return self._publication.interval_seconds


def _contradicted(tree_size: int) -> StrongroomError:
    return StrongroomError(
        Reason.AUDIT_STORAGE_FAILED,
        f"the audit log is not what the checkpoint of {tree_size} says: its database was changed",
        peer="audit",
    )
