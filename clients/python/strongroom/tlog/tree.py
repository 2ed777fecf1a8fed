"""The right edge of the Merkle tree: what has to be known of it to go on, whatever its size.

Of each level of tiles that is the tile being filled, at most 255 hashes. An append adds hashes, and answers the tiles
that it filled or changed; nothing else of the tree is read or written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strongroom.tlog import merkle
from strongroom.tlog.tiles import HEIGHT, WIDTH


@dataclass(frozen=True, slots=True)
class Tile:
    """A hash tile as the database keeps it: a full one, or from level 1 on the one being filled."""

    level: int
    number: int
    hashes: bytes


class Tree:
    """A tree of `size` leaves. `edge` has each level's hashes in the tile that is being filled, from level 0 on."""

    def __init__(self, size: int, edge: Sequence[Sequence[bytes]]) -> None:
        self.size = size
        self._edge = edge

    def grown(self, hashes: Sequence[bytes]) -> tuple[Tree, list[Tile]]:
        """The tree with these leaves added, and the tiles that differ. This tree stays as it is."""
        edge = [list(level) for level in self._edge]
        changed: list[Tile] = []
        self._add(edge, 0, hashes, changed)
        return Tree(self.size + len(hashes), edge), changed

    def filling(self) -> list[Tile]:
        """The tiles that are being filled, from level 1 on."""
        return [
            Tile(level, self.size >> HEIGHT * (level + 1), b"".join(hashes))
            for level, hashes in enumerate(self._edge)
            if level and hashes
        ]

    def root(self) -> bytes:
        """The root hash."""
        root: bytes | None = None
        for hashes in self._edge:
            # Lower levels lie to the right of higher ones.
            for height, number in reversed(merkle.whole_subtrees((0, len(hashes)))):
                left = merkle.root_of(hashes[number << height : (number + 1) << height])
                root = left if root is None else merkle.node_hash(left, root)
        return merkle.EMPTY_ROOT if root is None else root

    def _add(self, edge: list[list[bytes]], level: int, hashes: Sequence[bytes], changed: list[Tile]) -> None:
        if level == len(edge):
            edge.append([])
        filling = edge[level]
        number = self.size >> HEIGHT * (level + 1)
        filling.extend(hashes)
        above: list[bytes] = []
        for start in range(0, len(filling) - WIDTH + 1, WIDTH):
            full = filling[start : start + WIDTH]
            changed.append(Tile(level, number + len(above), b"".join(full)))
            above.append(merkle.root_of(full))
        del filling[: len(above) * WIDTH]
        if level and filling:
            changed.append(Tile(level, number + len(above), b"".join(filling)))
        if above:
            self._add(edge, level + 1, above, changed)
