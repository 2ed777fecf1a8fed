"""Verifies a whole log from its files, offline: every entry, every tile, the checkpoint, and an older checkpoint.

Nothing is trusted but public keys. Each entry is hashed and the tree is made anew; whatever a file says otherwise is
found, and the first place where it does is named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from strongroom.bounded import read_file
from strongroom.errors import StrongroomError
from strongroom.tlog import merkle, tiles
from strongroom.tlog.checkpoints import Checkpoint, open_checkpoint
from strongroom.tlog.notes import MAX_NOTE_BYTES, VerifierKey
from strongroom.tlog.text import HASH_BYTES
from strongroom.tlog.tiles import HEIGHT, MAX_ENTRY_BYTES, WIDTH, TilePath
from strongroom.tlog.tree import Tile, Tree

CHECKPOINT = "checkpoint"
OLDER_SIZE = "older_size"
"""Where a log ends before an older checkpoint: how many entries that one covers. The log was cut, or its copy is
older."""

_TILE_BYTES = WIDTH * HASH_BYTES
_BUNDLE_BYTES = WIDTH * (2 + MAX_ENTRY_BYTES)  # each entry behind its length


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom one believes: a log's keys, and so many of some witnesses."""

    keys: Sequence[VerifierKey]
    witnesses: Sequence[VerifierKey] = ()
    quorum: int = 0

    def open(self, note: bytes) -> Checkpoint:
        """The checkpoint in a signed note. Raises as `open_checkpoint`."""
        return open_checkpoint(note, self.keys, self.witnesses, self.quorum)[0]


class TileFolder:
    """A log as files, laid out as C2SP tlog-tiles has it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def checkpoint(self) -> bytes:
        """The signed note of its checkpoint."""
        return read_file(self._directory / CHECKPOINT, MAX_NOTE_BYTES, regular=True)

    def read(self, path: TilePath) -> tuple[str, bytes]:
        """A tile or bundle and the file that it is in: the full one, where the partial one was removed. Raises
        LOG_ALTERED where it is missing, FILE_TOO_LARGE, FILE_NOT_REGULAR.
        """
        limit = _TILE_BYTES if path.level is not None else _BUNDLE_BYTES
        for candidate in (path, TilePath(path.level, path.number)):
            file = self._directory / str(candidate)
            if file.exists():
                return str(candidate), read_file(file, limit, regular=True)
        raise altered(path.number * WIDTH ** ((path.level or 0) + 1), str(path), "is missing")


def altered(position: int, file: str, what: str) -> StrongroomError:
    """LOG_ALTERED: from this entry on, the files are not what the log was."""
    return StrongroomError(
        "LOG_ALTERED",
        f"entry {position}: {file} {what}",
        code="DATA_LOSS",
        metadata={"position": str(position), "file": file},
    )


def verify_log(
    folder: TileFolder,
    trust: Trust,
    older: bytes | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Checkpoint:
    """The checkpoint, once everything under it is verified, and that of `older`, a signed note, is its beginning.

    `progress` is told how many entries are done and how many there are. Raises LOG_ALTERED, with `position` and `file`
    in its metadata, and what `open_checkpoint` does.
    """
    checkpoint = trust.open(folder.checkpoint)
    before = trust.open(older) if older is not None else None
    if before is not None and before.origin != checkpoint.origin:
        raise StrongroomError("LOG_MISMATCH", f"the older checkpoint is of another log, {before.origin}")
    if before is not None and before.size > checkpoint.size:
        cut = altered(checkpoint.size, CHECKPOINT, f"ends there, an older one covers {before.size}")
        cut.metadata[OLDER_SIZE] = str(before.size)
        raise cut
    tree = Tree(0, [])
    while tree.size < checkpoint.size:
        hashes = _verified_bundle(folder, tree.size // WIDTH, min(WIDTH, checkpoint.size - tree.size))
        if before is not None and tree.size < before.size <= tree.size + len(hashes):
            _compare_older(tree.grown(hashes[: before.size - tree.size])[0], before)
        tree, changed = tree.grown(hashes)
        for tile in changed:
            if tile.level and len(tile.hashes) == WIDTH * HASH_BYTES:
                _compare(folder, tile)
        progress(tree.size, checkpoint.size)
    for tile in tree.filling():
        _compare(folder, tile)
    if tree.root() != checkpoint.root:
        # Everything below agrees with itself: it was made anew from some entry on.
        first = before.size if before is not None else 0
        raise altered(first, CHECKPOINT, "has another root: entries were changed there or behind")
    return checkpoint


def _verified_bundle(folder: TileFolder, number: int, width: int) -> list[bytes]:
    """The leaf hashes of a bundle, which are those of its tile."""
    bundle_file, data = folder.read(TilePath(None, number, width))
    entries = tiles.entries_before_end(data)
    hashes = merkle.leaf_hashes(entries[:width])
    tile_file, tile = folder.read(TilePath(0, number, width))
    first = number * WIDTH
    for place, hashed in enumerate(hashes):
        if tile[place * HASH_BYTES : (place + 1) * HASH_BYTES] != hashed:
            raise altered(first + place, bundle_file, f"has an entry of another hash than {tile_file}")
    whole = tiles.bundle(entries) == data and len(entries) == _width_of(bundle_file, width)
    if len(hashes) < width or not whole:
        raise altered(first + min(len(entries), width), bundle_file, "does not hold its entries, whole and no more")
    if len(tile) != _width_of(tile_file, width) * HASH_BYTES:
        raise altered(first + width, tile_file, "does not hold its hashes, whole and no more")
    return hashes


def _compare(folder: TileFolder, tile: Tile) -> None:
    """Compares a tile above the entries' with the one that was made anew."""
    width = len(tile.hashes) // HASH_BYTES
    file, found = folder.read(TilePath(tile.level, tile.number, width))
    for place in range(width):
        at = slice(place * HASH_BYTES, (place + 1) * HASH_BYTES)
        if found[at] != tile.hashes[at]:
            position = (tile.number * WIDTH + place) << HEIGHT * tile.level
            raise altered(position, file, f"has another hash for the {WIDTH**tile.level} entries from there")
    if len(found) != _width_of(file, width) * HASH_BYTES:
        position = (tile.number * WIDTH + width) << HEIGHT * tile.level
        raise altered(position, file, "does not hold its hashes, whole and no more")


def _compare_older(tree: Tree, older: Checkpoint) -> None:
    if tree.root() != older.root:
        raise altered(0, CHECKPOINT, f"is not a continuation of the older one: the first {older.size} entries differ")


def _width_of(file: str, width: int) -> int:
    """How many a file should have: all of a full one that was read in place of a partial one."""
    return width if f".p/{width}" in file else WIDTH
