"""The Merkle tree of RFC 6962, section 2: hashes, and the proofs that an entry is in it and that it only grew.

A subtree is named by its height and its number at that height: it covers the entries from `number << height`, 2^height
of them. Whoever can read the hashes of whole subtrees can make every proof.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

from strongroom.tlog.errors import untrue
from strongroom.tlog.text import HASH_BYTES

EMPTY_ROOT = sha256(b"").digest()
"""The root of the tree without entries."""

Range = tuple[int, int]
"""Entries from the first number up to, not including, the second."""

Subtree = Callable[[int, int], bytes]
"""Reads the hash of a whole subtree, by height and number."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one entry."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees that lie beside each other."""
    return sha256(b"\x01" + left + right).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """The root over the hashes of entries, or of subtrees of one height."""
    level = list(hashes)
    if not level:
        return EMPTY_ROOT
    while len(level) > 1:
        # An odd one at the end moves up as it is, which comes to what section 2.1 says.
        paired = [sha256(b"\x01" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
        if len(level) % 2:
            paired.append(level[-1])
        level = paired
    return level[0]


def subtree_hashes(hashes: bytes) -> list[bytes]:
    """The hashes of the whole subtrees over these hashes, end to end, by height: first they themselves."""
    levels, width = [hashes], 2 * HASH_BYTES
    while len(hashes) >= width:
        ends = range(width, len(hashes) + 1, width)
        hashes = b"".join([sha256(b"\x01" + hashes[end - width : end]).digest() for end in ends])
        levels.append(hashes)
    return levels


def whole_subtrees(entries: Range) -> list[tuple[int, int]]:
    """The fewest whole subtrees that a range consists of, from the left: heights and numbers.

    The range is one of a proof: it begins where a subtree at least as large as what it covers may begin.
    """
    start, end = entries
    found = []
    while start < end:
        height = (end - start).bit_length() - 1
        found.append((height, start >> height))
        start += 1 << height
    return found


def range_hash(entries: Range, subtree: Subtree) -> bytes:
    """The root over a range of a proof."""
    hashes = [subtree(height, number) for height, number in whole_subtrees(entries)]
    if not hashes:
        return EMPTY_ROOT
    result = hashes.pop()
    while hashes:
        result = node_hash(hashes.pop(), result)
    return result


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """Whose roots prove that entry `index` is in a tree of `size`, from the leaf up (section 2.1.1)."""
    start, end, found = 0, size, []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            found.append((middle, end))
            end = middle
        else:
            found.append((start, middle))
            start = middle
    return found[::-1]


def consistency_ranges(old_size: int, size: int) -> list[Range]:
    """Whose roots prove that a tree of `old_size` ≥ 1 is the beginning of one of `size` (section 2.1.2)."""
    start, end, found = 0, size, []
    while old_size != end:
        middle = start + _split(end - start)
        if old_size <= middle:
            found.append((middle, end))
            end = middle
        else:
            found.append((start, middle))
            start = middle
    if start:
        found.append((start, end))
    return found[::-1]


def check_inclusion(hashed: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Returns when `proof` shows that the entry with this leaf hash is at `index` of the tree. Raises
    LOG_INCONSISTENT."""
    if not 0 <= index < size:
        raise untrue(f"there is no entry {index} in a log of {size}")
    ranges = inclusion_ranges(index, size)
    if len(ranges) != len(proof):
        raise untrue(f"a proof for entry {index} of {size} has {len(ranges)} hashes, not {len(proof)}")
    result = hashed
    for (start, _), sibling in zip(ranges, proof, strict=True):
        result = node_hash(result, sibling) if start > index else node_hash(sibling, result)
    if result != root:
        raise untrue(f"the proof does not lead from entry {index} to the root of {size}")


def check_consistency(old_size: int, size: int, proof: Sequence[bytes], old_root: bytes, root: bytes) -> None:
    """Returns when `proof` shows that the tree of `old_size` is the beginning of the one of `size`. Raises
    LOG_INCONSISTENT."""
    if old_size > size:
        raise untrue(f"a log of {size} cannot go on from one of {old_size}")
    if old_size in (0, size):
        if proof:
            raise untrue("the proof should be empty")
        if old_root != (EMPTY_ROOT if old_size == 0 else root):
            raise untrue(f"there are two roots for size {old_size}")
        return
    ranges = consistency_ranges(old_size, size)
    if len(ranges) != len(proof):
        raise untrue(f"a proof from {old_size} to {size} has {len(ranges)} hashes, not {len(proof)}")
    pairs = list(zip(ranges, proof, strict=True))
    if ranges[0][1] == old_size:
        old = new = proof[0]
        pairs = pairs[1:]
    else:
        # The old tree is a whole subtree of the new one: its root is known.
        old = new = old_root
    for (start, _), sibling in pairs:
        if start >= old_size:
            new = node_hash(new, sibling)
        else:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
    if old != old_root:
        raise untrue(f"the proof does not lead to the root of {old_size}")
    if new != root:
        raise untrue(f"the proof does not lead to the root of {size}")


def leaf_hashes(entries: Iterable[bytes]) -> list[bytes]:
    """The hashes of several entries."""
    return [sha256(b"\x00" + entry).digest() for entry in entries]


def _split(count: int) -> int:
    """The largest power of two below `count`, which is at least 2."""
    return 1 << (count - 1).bit_length() - 1
