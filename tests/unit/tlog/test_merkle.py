"""The Merkle tree: every proof of every small tree, made from tiles and from the definition."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom import StrongroomError
from strongroom.tlog import merkle, tiles
from strongroom.tlog.tiles import Proofs, Subtrees
from strongroom.tlog.tree import Tree


def defined_root(hashes: Sequence[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word, over leaf hashes."""
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return merkle.node_hash(defined_root(hashes[:split]), defined_root(hashes[split:]))


def leaves(count: int) -> list[bytes]:
    return merkle.leaf_hashes(str(number).encode() for number in range(count))


class Kept:
    """Tiles as a log keeps them, of leaves that came in groups."""

    def __init__(self, groups: Sequence[int]) -> None:
        self.tree = Tree(0, [])
        self.hashes = leaves(sum(groups))
        self._tiles: dict[tuple[int, int], bytes] = {}
        for count in groups:
            self.tree, changed = self.tree.grown(self.hashes[self.tree.size : self.tree.size + count])
            self._tiles.update({(tile.level, tile.number): tile.hashes for tile in changed})

    def tile(self, level: int, number: int, width: int) -> bytes:
        data = self._tiles.get((level, number))
        if data is None:
            assert level == 0
            data = b"".join(self.hashes[number * tiles.WIDTH : number * tiles.WIDTH + width])
        return data[: width * 32]


def refused(work: object, *arguments: object) -> bool:
    try:
        work(*arguments)  # type: ignore[operator]
    except StrongroomError as error:
        return error.reason == "LOG_INCONSISTENT"
    return False


SIZES = [*range(1, 20), 255, 256, 257, 511, 513, 700, 65_535, 65_536, 65_793]


@pytest.mark.parametrize("size", SIZES)
def test_the_edge_has_the_root_that_the_definition_says(size: int) -> None:
    kept = Kept([size])
    assert kept.tree.root() == defined_root(kept.hashes) == merkle.root_of(kept.hashes)
    assert Proofs(Subtrees(kept), size).root() == kept.tree.root()


@given(st.lists(st.integers(1, 700), min_size=1, max_size=12))
def test_however_leaves_are_grouped_the_tree_and_its_tiles_are_the_same(groups: list[int]) -> None:
    kept = Kept(groups)
    assert kept.tree.root() == merkle.root_of(kept.hashes)
    assert Proofs(Subtrees(kept), kept.tree.size).root() == kept.tree.root()


@pytest.mark.parametrize("size", range(1, 20))
def test_every_proof_of_a_small_tree_holds_and_no_other(size: int) -> None:
    kept = Kept([size])
    proofs = Proofs(Subtrees(kept), size)
    root = proofs.root()
    for index in range(size):
        proof = proofs.inclusion(index)
        merkle.check_inclusion(kept.hashes[index], index, size, proof, root)
        for wrong in range(size):
            if wrong != index:
                assert refused(merkle.check_inclusion, kept.hashes[index], wrong, size, proof, root)
        assert refused(merkle.check_inclusion, kept.hashes[index], index, size, [*proof, bytes(32)], root)
    for old_size in range(size + 1):
        old_root = defined_root(kept.hashes[:old_size]) if old_size else merkle.EMPTY_ROOT
        proof = proofs.consistency(old_size)
        merkle.check_consistency(old_size, size, proof, old_root, root)
        assert refused(merkle.check_consistency, old_size, size, proof, bytes(32), root)
        assert refused(merkle.check_consistency, old_size, size, [*proof, bytes(32)], old_root, root)
        if 0 < old_size < size:
            assert refused(merkle.check_consistency, old_size, size, proof, old_root, bytes(32))
            assert refused(merkle.check_consistency, old_size, size, proof[1:], old_root, root)


@given(st.integers(1, 3000), st.data())
def test_proofs_from_tiles_hold_at_any_size(size: int, data: st.DataObject) -> None:
    kept = Kept([size])
    proofs = Proofs(Subtrees(kept), size)
    index = data.draw(st.integers(0, size - 1))
    merkle.check_inclusion(kept.hashes[index], index, size, proofs.inclusion(index), proofs.root())
    old_size = data.draw(st.integers(1, size))
    old_root = merkle.root_of(kept.hashes[:old_size])
    assert proofs.root(old_size) == old_root
    merkle.check_consistency(old_size, size, proofs.consistency(old_size), old_root, proofs.root())


@given(st.lists(st.integers(1, 3000), min_size=2, max_size=6), st.integers(1, 4), st.data())
def test_shared_subtrees_serve_every_size_of_a_growing_log(sizes: list[int], keep: int, data: st.DataObject) -> None:
    kept = Kept([max(sizes)])
    shared = Subtrees(kept, keep)
    for size in sizes:
        proofs, index = Proofs(shared, size), data.draw(st.integers(0, size - 1))
        root = merkle.root_of(kept.hashes[:size])
        assert proofs.root() == root
        merkle.check_inclusion(kept.hashes[index], index, size, proofs.inclusion(index), root)


def test_a_tile_is_read_once_while_it_is_kept_and_refused_when_it_is_short() -> None:
    reads = []

    class Counted(Kept):
        def tile(self, level: int, number: int, width: int) -> bytes:
            reads.append((level, number, width))
            return super().tile(level, number, width)

    counted = Counted([700])
    shared = Subtrees(counted, 8)
    for index in range(700):
        Proofs(shared, 700).inclusion(index)
    assert sorted(reads) == [(0, 0, 256), (0, 1, 256), (0, 2, 188), (1, 0, 2)]

    counted.hashes = counted.hashes[:600]
    with pytest.raises(StrongroomError, match="2816 bytes, not 5984") as caught:
        Proofs(shared, 699).inclusion(0)
    assert caught.value.reason == "LOG_DATA_MALFORMED"
