"""Tiles and entry bundles of a log, from its database."""

from __future__ import annotations

from services.audit.retention.archive import Archive
from services.audit.storage.store import LogStore
from services.runtime.errors import Reason, StrongroomError
from strongroom.tlog import merkle, tiles
from strongroom.tlog.text import HASH_BYTES
from strongroom.tlog.tiles import WIDTH, Proofs, Subtrees, TilePath

# Beside those of single events, all of level 1 of a log of some ten million; 4 MiB.
_KEPT_TILES = 256


class TileSource:
    """Reads tiles of any width that the log has had. Methods raise TILE_NOT_FOUND for one that it has not."""

    def __init__(self, store: LogStore, archive: Archive) -> None:
        self._store = store
        self._archive = archive
        self._subtrees = Subtrees(self, _KEPT_TILES)

    def proofs(self, size: int) -> Proofs:
        """Proofs about the log when it had `size` leaves."""
        return Proofs(self._subtrees, size)

    def afresh(self) -> TileSource:
        """One that believes nothing that was read before."""
        return TileSource(self._store, self._archive)

    def has(self, size: int, tree_size: int, root_hash: bytes) -> bool:
        """Whether a log of `size` leaves begins with the tree of so many leaves and this root hash."""
        return tree_size <= size and self.proofs(size).root(tree_size) == root_hash

    def tile(self, level: int, number: int, width: int) -> bytes:
        """The first hashes of a tile."""
        hashes = self._store.tile(level, number)
        if hashes is None and level == 0:
            # The one being filled is not kept at this level: the leaves are.
            hashes = b"".join(merkle.leaf_hashes(self.entries(number, width)))
        if hashes is None or len(hashes) < width * HASH_BYTES:
            raise not_found(TilePath(level, number, width))
        return hashes[: width * HASH_BYTES]

    def entries(self, number: int, width: int) -> list[bytes]:
        """The first leaves of a bundle."""
        start = number * WIDTH
        entries = self._store.entries(start, start + width)
        if len(entries) < width:
            entries = self._archive.entries(number)[:width]
        if len(entries) < width:
            raise not_found(TilePath(None, number, width))
        return entries

    def read(self, path: TilePath) -> bytes:
        """What is under a path."""
        if path.level is None:
            return tiles.bundle(self.entries(path.number, path.width))
        return self.tile(path.level, path.number, path.width)


def not_found(path: TilePath) -> StrongroomError:
    """The log has no such tile."""
    return StrongroomError(Reason.TILE_NOT_FOUND, f"the log has no {path}")
