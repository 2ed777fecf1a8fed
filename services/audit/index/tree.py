"""Which leaves have which tokens: a tree of nodes (postings.py), so that a lookup reads a few blocks of it however long
the log is, and then only the spans of 64 leaves that may have all the tokens asked for.

The node that is being filled is in memory, and read again from the leaves at start-up. Full ones are made into blocks,
and 64 complete ones of a level merged into one of the level above, in the background and in small pieces: a piece that
took long would hold up every append, which needs the interpreter too. The blocks are written with the appends that
come after, a few with each, so that the index needs no transaction of its own that appends would wait for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from sqlalchemy import Connection

from services.audit.index import postings
from services.audit.index.postings import SPAN, UNTOKENED, Block, Blocks
from services.audit.index.store import IndexStore
from services.audit.storage.store import LogStore
from services.runtime.background import NEVER, Background

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
# Between two pieces of work, so that whoever waits for the interpreter gets it.
_BREATH_SECONDS = 0.0005
# With the leaves of one node this many blocks can be written. Each level makes as many as level 0 has.
_LEVELS_AT_ONCE = 4
_WAITING_BLOCKS = 256
_FEW_NODES = 8
_MOST_NODES = 64


@dataclass(slots=True)
class _Filling:
    """A node in memory: the tokens of each span's leaves, end to end; a bit for each span where some have none."""

    spans: list[bytearray] = field(default_factory=lambda: [bytearray() for _ in range(postings.SPANS)])
    untokened: int = 0

    def add(self, span: int, tokens: Sequence[bytes]) -> None:
        self.spans[span] += b"".join(tokens)
        if b"" in tokens:
            self.untokened |= 1 << span

    def tokens_of(self, span: int) -> set[bytes]:
        found = postings.tokens_in(self.spans[span])
        return found | {UNTOKENED} if self.untokened >> span & 1 else found

    def having(self, tokens: Sequence[bytes]) -> int:
        mask = self.untokened
        for number, joined in enumerate(self.spans):
            if joined and all(token in joined for token in tokens):
                mask |= 1 << number
        return mask


class Index:
    """Of one log. `note`, `write` and `written` are called by the sequencer alone, anyone may search."""

    def __init__(self, store: IndexStore, leaves: LogStore) -> None:
        self._store = store
        self._leaves = leaves
        # Nodes that are not in the database yet: the one being filled, and full ones on their way there.
        self._nodes: dict[int, _Filling] = {}
        self._full: deque[int] = deque()
        self._blocks: deque[Block] = deque()
        # Of each level, how many nodes have all their blocks in the database.
        self._complete = [0]
        # Of each level, how many have been made into blocks; some of those may wait still.
        self._made = [0]
        self._merge: _Merge | None = None
        self._work = threading.Condition()
        self._stopping = False
        # Until work that failed is done, the nodes stay in memory.
        self._working = Background(
            "audit-index",
            self._do_work,
            "the search index of the audit log could not be updated",
            every=0.0,
            again=_RETRY_SECONDS,
            takes=NEVER,
        )

    def load(self, size: int) -> None:
        """Reads what is not in the database of a log of `size` leaves, and begins to work."""
        # No more than there can be, whatever somebody wrote: what is not in the database is in memory.
        self._complete = [min(self._store.complete(0), size // postings.NODE_LEAVES)]
        while above := min(self._store.complete(len(self._complete)), self._complete[-1] // postings.FANOUT):
            self._complete.append(above)
        self._made = list(self._complete)
        for start in range(self._complete[0] * postings.NODE_LEAVES, size, postings.NODE_LEAVES):
            tokens = self._leaves.tokens(start, min(start + postings.NODE_LEAVES, size))
            self.note(start, [b"" if len(one) % postings.TOKEN_BYTES else one for one in tokens])
        self._working.start()

    def complete(self, level: int) -> int:
        """How many nodes of a level have all their blocks in the database."""
        complete = tuple(self._complete)
        return complete[level] if level < len(complete) else 0

    def stop(self) -> None:
        """Ends the work."""
        with self._work:
            self._stopping = True
            self._work.notify()
        self._working.stop()

    def note(self, first_index: int, tokens: Sequence[bytes]) -> None:
        """Takes up leaves that were added to the log, with their tokens."""
        end = first_index + len(tokens)
        for start in range(first_index // SPAN * SPAN, end, SPAN):
            number, inside = divmod(start, postings.NODE_LEAVES)
            node = self._nodes.get(number)
            if node is None:
                node = self._nodes[number] = _Filling()
            node.add(inside // SPAN, tokens[max(start - first_index, 0) : start + SPAN - first_index])
            if inside + SPAN == postings.NODE_LEAVES and start + SPAN <= end:
                with self._work:
                    self._full.append(number)
                    self._work.notify()

    def write(self, connection: Connection, leaves: int) -> int:
        """Writes a few of the blocks that wait, as many as `leaves` added with them are worth; how many."""
        share = -(-leaves * postings.blocks_at(0) * _LEVELS_AT_ONCE // postings.NODE_LEAVES)
        # Only this thread takes any away.
        blocks = [self._blocks[number] for number in range(min(share, len(self._blocks)))]
        self._store.put(connection, blocks)
        return len(blocks)

    def written(self, count: int) -> None:
        """Notes that the first blocks that waited are durable."""
        for _ in range(count):
            block = self._blocks.popleft()
            if block.is_last:
                # In this order: whoever does not find a node in memory has to find it in the database.
                self._complete[block.level : block.level + 1] = [block.node + 1]
                if block.level == 0:
                    del self._nodes[block.node]
        if count:
            with self._work:
                self._work.notify()

    def spans(self, tokens: Sequence[bytes], start: int, end: int, *, newest_first: bool) -> Iterator[int]:
        """The spans between two leaves whose leaves have all of the tokens between them, in order of the log."""
        if start >= end:
            return
        first, last = start // postings.NODE_LEAVES, (end - 1) // postings.NODE_LEAVES
        # Before the database: a node that moves there meanwhile is found here.
        in_memory = dict(self._nodes)
        complete = tuple(self._complete)
        behind = min(in_memory, default=complete[0])
        stored = _Search(self._store, complete, tokens, first, min(last + 1, behind), newest_first).masks(0)
        nodes = range(max(first, behind), last + 1)
        filling = (
            (node, in_memory[node].having(tokens))
            for node in (reversed(nodes) if newest_first else nodes)
            if node in in_memory
        )
        for part in (filling, stored) if newest_first else (stored, filling):
            for node, mask in part:
                for span in postings.bits(mask, descending=newest_first):
                    number = node * postings.SPANS + span
                    if start < (number + 1) * SPAN and number * SPAN < end:
                        yield number

    # --- in the background

    def _do_work(self) -> float | None:
        with self._work:
            self._work.wait_for(lambda: self._stopping or self._has_work())
        if self._stopping:
            return NEVER
        self._make_blocks()
        return None

    def _has_work(self) -> bool:
        if self._full:
            return True
        # Merging can wait while appends have not written what there is.
        if self._merge is None and len(self._blocks) < _WAITING_BLOCKS:
            self._merge = next(self._due_merges(), None)
        return self._merge is not None and len(self._blocks) < _WAITING_BLOCKS

    def _due_merges(self) -> Iterator[_Merge]:
        for level, complete in enumerate(self._complete, 1):
            made = self._made[level] if level < len(self._made) else 0
            if (made + 1) * postings.FANOUT <= complete:
                yield _Merge(level, made)

    def _make_blocks(self) -> None:
        if self._full:
            self._queue(self._blocks_of(self._full[0]))
            self._full.popleft()
        elif self._merge is not None:
            self._queue(self._merge.step(self._store))
            if self._merge.is_done:
                self._made[self._merge.level : self._merge.level + 1] = [self._merge.node + 1]
                self._merge = None

    def _blocks_of(self, number: int) -> Blocks:
        node, blocks = self._nodes[number], Blocks(0, number)
        for span in range(postings.SPANS):
            blocks.add(span, node.tokens_of(span))
            time.sleep(_BREATH_SECONDS)
        return blocks

    def _queue(self, blocks: Blocks) -> None:
        for block in blocks.made():
            self._blocks.append(block)
            time.sleep(_BREATH_SECONDS)


class _Merge:
    """The complete nodes of one level becoming one of the level above, a block of theirs after the other."""

    def __init__(self, level: int, node: int) -> None:
        self.level = level
        self.node = node
        self._next = 0

    @property
    def is_done(self) -> bool:
        """Whether every block was divided."""
        return self._next == postings.blocks_at(self.level - 1)

    def step(self, store: IndexStore) -> Blocks:
        """What the next block of the nodes below is divided into."""
        blocks = Blocks(self.level, self.node, self._next)
        first = self.node * postings.FANOUT
        (found,) = store.pairs(self.level - 1, [self._next], range(first, first + postings.FANOUT))
        for part in range(postings.FANOUT):
            blocks.add(part, postings.tokens_of(found.get(first + part)))
            time.sleep(_BREATH_SECONDS)
        self._next += 1
        return blocks


@dataclass(frozen=True, slots=True)
class _Search:
    """One look into the database: for nodes from `first` up to, not including, `end` that have all of the tokens.

    `complete` says of each level how many nodes can be read.
    """

    store: IndexStore
    complete: Sequence[int]
    tokens: Sequence[bytes]
    first: int
    end: int
    newest_first: bool

    def masks(self, level: int) -> Iterator[tuple[int, int]]:
        """Nodes of a level, in order, each with a bit for every part that may have all of the tokens."""
        numbers, count = self._numbers(level), _FEW_NODES
        places = [postings.block_of(level, token) for token in self.tokens]
        # A few at first, which often suffice.
        while some := list(islice(numbers, count)):
            found = self.store.pairs(level, places, some)
            for number in some:
                mask = -1
                for token, pairs in zip(self.tokens, found, strict=True):
                    mask &= postings.parts_with(level, pairs.get(number), token)
                if mask:
                    yield number, mask
            count = min(2 * count, _MOST_NODES)

    def _numbers(self, level: int) -> Iterator[int]:
        """Nodes of a level that may have all of the tokens, in order: parts of those above that do, and those that are
        not part of one yet."""
        width = postings.FANOUT**level
        first, end = self.first // width, min(-(-self.end // width), self.complete[level])
        covered = self.complete[level + 1] * postings.FANOUT if level + 1 < len(self.complete) else 0
        rest = range(max(first, covered), end)
        if self.newest_first:
            yield from reversed(rest)
        if covered > first and self.first < self.end:
            for above, mask in self.masks(level + 1):
                for part in postings.bits(mask, descending=self.newest_first):
                    number = above * postings.FANOUT + part
                    if first <= number < end:
                        yield number
        if not self.newest_first:
            yield from rest
