"""Looks through the index in the database, and puts right what does not follow from the leaves.

What was taken out of it would be found by no lookup; what is in it besides only costs a look.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from services.audit.index import postings
from services.audit.index.postings import SPAN, UNTOKENED, Block, Blocks
from services.audit.index.store import IndexStore
from services.audit.index.tree import Index
from services.audit.storage.store import LogStore

log = logging.getLogger(__name__)

_STEPS_AT_ONCE = 16
_BREATH_SECONDS = 0.001


class IndexInspection:
    """Of one log. Its leaves are noted in their order, over and over."""

    def __init__(
        self, index: Index, store: IndexStore, leaves: LogStore, exclusively: Callable[[Callable[[], object]], None]
    ) -> None:
        """`exclusively` does something while nothing is appended."""
        self._index = index
        self._store = store
        self._leaves = leaves
        self._exclusively = exclusively
        self._node = -1
        self._next = 0
        self._spans: list[set[bytes]] = []
        self._above = (1, 0, 0)
        self.put_right = 0
        """Blocks that were not what they had to be, since the process began."""

    def note(self, leaf_index: int, tokens: bytes) -> None:
        """Takes up the tokens of the next leaf; when a node is whole, looks at its blocks."""
        node, inside = divmod(leaf_index, postings.NODE_LEAVES)
        if inside == 0:
            self._node, self._spans = node, [set() for _ in range(postings.SPANS)]
            self._next = leaf_index
        if node != self._node or leaf_index != self._next:
            # Leaves are missing: what the node has to have is unknown.
            self._node = -1
            return
        self._next += 1
        self._spans[inside // SPAN] |= postings.tokens_in(tokens) or {UNTOKENED}
        if inside + 1 == postings.NODE_LEAVES and node < self._index.complete(0):
            blocks = Blocks(0, node)
            for span, found in enumerate(self._spans):
                blocks.add(span, found)
            self._put_right(0, node, blocks.made())

    def look(self) -> None:
        """Looks at some blocks of the levels above."""
        for _ in range(_STEPS_AT_ONCE):
            level, node, block = self._above
            if node >= self._index.complete(level):
                self._above = (level + 1, 0, 0) if node else (1, 0, 0)
                return
            blocks = Blocks(level, node, block)
            first = node * postings.FANOUT
            (found,) = self._store.pairs(level - 1, [block], range(first, first + postings.FANOUT))
            for part in range(postings.FANOUT):
                blocks.add(part, postings.tokens_of(found.get(first + part)))
            self._put_right(level, node, blocks.made())
            is_last = block + 1 == postings.blocks_at(level - 1)
            self._above = (level, node + 1, 0) if is_last else (level, node, block + 1)
            time.sleep(_BREATH_SECONDS)

    def _put_right(self, level: int, node: int, wanted: Iterable[Block]) -> None:
        blocks = list(wanted)
        numbers = [block.number for block in blocks]
        stored = self._store.pairs(level, numbers, [node])
        wrong = [block for block, found in zip(blocks, stored, strict=True) if found.get(node) != block.pairs]
        if wrong:
            # Two writers would wait for each other.
            self._exclusively(lambda: self._put(wrong))
            self.put_right += len(wrong)
            fields = {"level": level, "node": node, "blocks": len(wrong)}
            log.error("blocks of the audit log's index were not what the service wrote", extra={"fields": fields})

    def _put(self, blocks: list[Block]) -> None:
        with self._leaves.writing() as connection:
            self._store.put(connection, blocks)
