"""How the index's nodes are laid out: which of a node's parts have which tokens.

A node of level 0 is 16,384 leaves, and its parts are 256 spans of 64. A node of each level above is 64 nodes of the
one below, and those are its parts. What a node knows is a sorted list of (token, part) pairs, each once, in blocks by
the tokens' first bits: 64 at level 0 and 64 times as many at each level above, so that a block is of one size whatever
the level, and looking a token up reads one block of a node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct

TOKEN_BYTES = 6
SPAN = 64
"""Leaves of a span."""
SPANS = 256
"""Spans of a node of level 0."""
NODE_LEAVES = SPANS * SPAN
FANOUT = 64
"""Nodes of a level that are one of the level above."""
BLOCK_BITS = 6
"""A level has 2^6 times the blocks of the one below, level 0 has 2^6."""
UNTOKENED = bytes(TOKEN_BYTES)
"""Stands for whatever leaves without tokens may have: it is in every block of a node that has such leaves."""

_TOKEN = Struct(f"{TOKEN_BYTES}s")
_PAIR = Struct(f">{TOKEN_BYTES}sB")


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a node, as the database keeps it."""

    level: int
    number: int
    node: int
    pairs: bytes

    @property
    def is_last(self) -> bool:
        """Whether its node is complete with it: blocks are written in order."""
        return self.number == blocks_at(self.level) - 1


def blocks_at(level: int) -> int:
    """How many blocks a node of a level has."""
    return 1 << BLOCK_BITS * (level + 1)


def block_of(level: int, token: bytes) -> int:
    """The number of the block that has a token."""
    return int.from_bytes(token) >> 8 * TOKEN_BYTES - BLOCK_BITS * (level + 1)


def tokens_in(joined: bytes | bytearray) -> set[bytes]:
    """Tokens that lie end to end; none in what is no such thing."""
    if len(joined) % TOKEN_BYTES:
        return set()
    return {token for (token,) in _TOKEN.iter_unpack(joined)}


def tokens_of(pairs: bytes | None) -> set[bytes]:
    """The tokens of a block; of one that is missing, or damaged, what stands for any."""
    if pairs is None or len(pairs) % _PAIR.size:
        return {UNTOKENED}
    return {token for token, _ in _PAIR.iter_unpack(pairs)}


def parts_with(level: int, pairs: bytes | None, token: bytes) -> int:
    """Which parts of a node may have a token, a bit each, by a block's pairs: any, where it is missing or damaged."""
    if pairs is None or len(pairs) % _PAIR.size:
        return (1 << (FANOUT if level else SPANS)) - 1
    return _run(pairs, token) | _run(pairs, UNTOKENED)


def bits(mask: int, *, descending: bool = False) -> Iterator[int]:
    """The numbers of the bits that are set."""
    numbers = range(mask.bit_length())
    return (number for number in (reversed(numbers) if descending else numbers) if mask >> number & 1)


class Blocks:
    """The blocks of a node, all at level 0, or above those that one `block` of the level below is divided into."""

    def __init__(self, level: int, node: int, block: int = 0) -> None:
        self._level = level
        self._node = node
        self._first = block << BLOCK_BITS
        self._pairs: list[list[bytes]] = [[] for _ in range(1 << BLOCK_BITS)]
        self._anything: list[bytes] = []

    def add(self, part: int, tokens: Iterable[bytes]) -> None:
        """Takes up the tokens of a part; parts come in order."""
        last = bytes([part])
        shift, mask = 8 * TOKEN_BYTES - BLOCK_BITS * (self._level + 1), (1 << BLOCK_BITS) - 1
        for token in tokens:
            if token == UNTOKENED:
                self._anything.append(token + last)
            else:
                self._pairs[int.from_bytes(token) >> shift & mask].append(token + last)

    def made(self) -> Iterator[Block]:
        """The blocks, in order."""
        for number, pairs in enumerate(self._pairs, self._first):
            yield Block(self._level, number, self._node, b"".join([*self._anything, *sorted(pairs)]))


def _run(pairs: bytes, token: bytes) -> int:
    mask, position = 0, pairs.find(token)
    while position >= 0 and position % _PAIR.size:
        position = pairs.find(token, position + 1)
    while position >= 0 and pairs.startswith(token, position):
        mask |= 1 << pairs[position + TOKEN_BYTES]
        position += _PAIR.size
    return mask
