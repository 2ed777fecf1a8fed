"""Tiles of a log (C2SP tlog-tiles): their paths, entry bundles, and every proof made from them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import Protocol

from strongroom.tlog import merkle
from strongroom.tlog.errors import malformed
from strongroom.tlog.text import HASH_BYTES

HEIGHT = 8
WIDTH = 1 << HEIGHT
"""Hashes of a full tile, and entries of a full bundle."""
MAX_ENTRY_BYTES = 65_535
MAX_LEVEL = 63
# 2^63 entries are 2^55 tiles: no path is longer.
_MAX_ELEMENTS = 6

_PATH = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
_LENGTH = Struct(">H")


@dataclass(frozen=True, slots=True)
class TilePath:
    """A tile, or with `level` None an entry bundle. `width` is how many it has, 1 to 256."""

    level: int | None
    number: int
    width: int = WIDTH

    def __str__(self) -> str:
        level = "entries" if self.level is None else str(self.level)
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{level}/{number_path(self.number)}{partial}"

    @property
    def end(self) -> int:
        """How many of its level's hashes, or of the log's entries, there have to be for it to be."""
        return self.number * WIDTH + self.width


def number_path(number: int) -> str:
    """A tile's number in elements of three digits: 1234067 is `x001/x234/067`."""
    text = f"{number % 1000:03}"
    while number >= 1000:
        number //= 1000
        text = f"x{number % 1000:03}/{text}"
    return text


def parse_path(path: str) -> TilePath:
    """Reads a tile's path, in its one form. Raises LOG_DATA_MALFORMED."""
    found = _PATH.fullmatch(path)
    if found is None or found[2].count("/") >= _MAX_ELEMENTS:
        raise malformed("the path", "is not that of a tile")
    level = None if found[1] == "entries" else int(found[1])
    width = int(found[3]) if found[3] else WIDTH
    number = int(found[2].replace("x", "").replace("/", ""))
    tile = TilePath(level, number, width)
    if (level or 0) > MAX_LEVEL or (found[3] and width >= WIDTH) or str(tile) != path:
        raise malformed("the path", "is not that of a tile")
    return tile


def count_at(level: int, size: int) -> int:
    """How many hashes the tiles of a level have in a log of `size` entries."""
    return size >> HEIGHT * level


def width_of(level: int, number: int, size: int) -> int:
    """How wide a tile is in a log of `size` entries; 0 or less where it is not there."""
    return min(count_at(level, size) - number * WIDTH, WIDTH)


def tiles_between(old_size: int, size: int) -> Iterable[TilePath]:
    """The hash tiles and entry bundles that a log of `size` entries has and that of `old_size` had not."""
    for level in range(MAX_LEVEL):
        count, old_count = count_at(level, size), count_at(level, old_size)
        if count == 0:
            return
        for number in range(old_count // WIDTH, (count + WIDTH - 1) // WIDTH):
            width = width_of(level, number, size)
            if number * WIDTH + width > old_count:
                yield TilePath(level, number, width)
                if level == 0:
                    yield TilePath(None, number, width)


def partial_tiles(size: int) -> Iterable[TilePath]:
    """The tiles and the bundle of a log of `size` entries that are not full."""
    for level in range(MAX_LEVEL):
        number, width = divmod(count_at(level, size), WIDTH)
        if width:
            yield TilePath(level, number, width)
            if level == 0:
                yield TilePath(None, number, width)


def bundle(entries: Iterable[bytes]) -> bytes:
    """Entries as a bundle: each with its length before it. An entry has at most 65,535 bytes."""
    return b"".join(part for entry in entries for part in (_LENGTH.pack(len(entry)), entry))


def entries_of(data: bytes, width: int) -> list[bytes]:
    """The entries of a bundle. Raises LOG_DATA_MALFORMED unless there are `width` and nothing else."""
    entries = entries_before_end(data)
    if len(entries) != width or sum(map(len, entries)) + _LENGTH.size * width != len(data):
        raise malformed("the entry bundle", f"does not hold {width} whole entries")
    return entries


def entries_before_end(data: bytes) -> list[bytes]:
    """The whole entries at the beginning of what may be a bundle."""
    entries, position = [], 0
    while position + _LENGTH.size <= len(data):
        start = position + _LENGTH.size
        position = start + _LENGTH.unpack_from(data, position)[0]
        if position > len(data):
            break
        entries.append(data[start:position])
    return entries


def hashes_of(data: bytes, width: int) -> list[bytes]:
    """The hashes of a tile. Raises LOG_DATA_MALFORMED unless there are `width`."""
    _require_width(data, width)
    return [data[start : start + HASH_BYTES] for start in range(0, len(data), HASH_BYTES)]


def _require_width(data: bytes, width: int) -> None:
    if len(data) != width * HASH_BYTES:
        raise malformed("the tile", f"has {len(data)} bytes, not {width * HASH_BYTES}")


class TileReader(Protocol):
    """Where tiles are read from."""

    def tile(self, level: int, number: int, width: int) -> bytes:
        """The first `width` hashes of a tile."""


class Subtrees:
    """The hashes of whole subtrees, computed from the tiles they are in; those of the tiles used last, `keep` of them,
    are kept, 16 KiB each."""

    def __init__(self, reader: TileReader, keep: int = 16) -> None:
        self._reader = reader
        self._of_tile = lru_cache(keep)(self._computed)

    def hash(self, height: int, number: int, size: int) -> bytes:
        """The hash of one, in a log of `size` entries."""
        level, inside = divmod(height, HEIGHT)
        tile, first = divmod(number << inside, WIDTH)
        start = (first >> inside) * HASH_BYTES
        return self._of_tile(level, tile, width_of(level, tile, size))[inside][start : start + HASH_BYTES]

    def _computed(self, level: int, number: int, width: int) -> list[bytes]:
        data = self._reader.tile(level, number, width)
        _require_width(data, width)
        return merkle.subtree_hashes(data)


class Proofs:
    """Proofs about a log of `size` entries, from subtrees that may be shared with others, of other sizes too."""

    def __init__(self, subtrees: Subtrees, size: int) -> None:
        self._size = size
        self._subtrees = subtrees

    def root(self, size: int | None = None) -> bytes:
        """The root hash, also at an earlier size."""
        return merkle.range_hash((0, self._size if size is None else size), self._subtree)

    def leaf_hash(self, index: int) -> bytes:
        """The leaf hash of one entry."""
        return self._subtree(0, index)

    def inclusion(self, index: int) -> list[bytes]:
        """The inclusion proof of an entry (RFC 6962, section 2.1.1)."""
        return self._hashes(merkle.inclusion_ranges(index, self._size))

    def consistency(self, old_size: int) -> list[bytes]:
        """The consistency proof from an earlier size (RFC 6962, section 2.1.2); empty from 0."""
        return self._hashes(merkle.consistency_ranges(old_size, self._size)) if old_size else []

    def _hashes(self, ranges: Sequence[merkle.Range]) -> list[bytes]:
        return [merkle.range_hash(entries, self._subtree) for entries in ranges]

    def _subtree(self, height: int, number: int) -> bytes:
        return self._subtrees.hash(height, number, self._size)
