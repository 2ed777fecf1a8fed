"""What events are found by, though they are sealed: tokens, and which spans of leaves have them.

A token stands for one value of one field in one account: a keyed hash, so that who has the database alone cannot tell
what it stands for. Each leaf has its event's tokens beside it. Over every 16,384 leaves, a node, there is a sorted
list of (token, span) pairs, in blocks by the tokens' first bits; a lookup reads one block of each node, and then only
the spans of 64 leaves that have all the tokens asked for. The node that is being filled is in memory, and read again
from the leaves at start-up. Writing the index costs an append nothing but the tokens.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from struct import Struct

from sqlalchemy import Engine, func, insert, select
from sqlalchemy.exc import DBAPIError

from services.audit.service_keys import INDEX_KEY, ServiceKeys
from services.audit.store import LogStore
from services.audit.tables import index_blocks
from services.runtime.database import reading, transaction
from services.runtime.errors import Reason, StrongroomError
from services.runtime.sensitive import SensitiveBytes
from strongroom.audit.v1.event_pb2 import Event

log = logging.getLogger(__name__)

TOKEN_BYTES = 6
SPAN = 64
"""Leaves of a span."""
SPANS = 256
"""Spans of a node."""
NODE_LEAVES = SPANS * SPAN
KEY_BYTES = 32

_BLOCKS = 64
_BLOCK_SHIFT = 2
_PAIR = Struct(f">{TOKEN_BYTES}sB")
_UNTOKENED = bytes(TOKEN_BYTES)
_CACHED_KINDS = 50_000
_RETRY_SECONDS = 1.0

# Token to a bit for each span of a node that has it.
Masks = dict[bytes, int]


class Tokens:
    """Makes tokens. `key` is None until crypto has provided it."""

    def __init__(self, service_keys: ServiceKeys) -> None:
        self._service_keys = service_keys
        self._key: bytes | None = None
        self._kinds: dict[tuple[str | int, ...], bytes] = {}

    def renew(self) -> None:
        """Gets the key, or makes it when there is none yet. Raises what `RootWrapping` does."""
        if self._key is None:
            newest = self._service_keys.newest(INDEX_KEY)
            if newest is None:
                newest = self._service_keys.make(INDEX_KEY, SensitiveBytes(os.urandom(KEY_BYTES)))
            self._key = self._service_keys.open(newest.key_id).reveal()

    def check(self) -> None:
        """Raises AUDIT_SEALING_KEY_UNAVAILABLE until there is a key."""
        if self._key is None:
            raise StrongroomError(
                Reason.AUDIT_SEALING_KEY_UNAVAILABLE,
                "the audit log cannot be used: crypto has not provided the index's key",
                peer="audit",
            )

    def of(self, event: Event) -> bytes:
        """Everything that an event is found by."""
        values = (
            event.account,
            event.principal,
            event.action,
            event.resource,
            event.outcome,
            event.key_version,
            event.secret_version,
            event.session_name,
        )
        # Events come in kinds: all but the trace is the same in many.
        kind = self._kinds.get(values)
        if kind is None:
            if len(self._kinds) >= _CACHED_KINDS:
                self._kinds.clear()
            kind = self._kinds[values] = self._kind(*values)
        return kind + self.token(event.account, "trace", event.trace_id)

    def token(self, account: str, field: str, value: str) -> bytes:
        """The token of one value. Raises AUDIT_SEALING_KEY_UNAVAILABLE."""
        self.check()
        named = f"{field}\0{account}\0{value}".encode()
        return blake2b(named, digest_size=TOKEN_BYTES, key=self._key or b"").digest()

    def _kind(
        self,
        account: str,
        principal: str,
        action: str,
        resource: str,
        outcome: int,
        key_version: str,
        secret_version: str,
        session_name: str,
    ) -> bytes:
        fields = [
            ("account", account),
            ("principal", principal),
            ("action", action),
            ("resource", resource),
            ("outcome", str(outcome)),
            ("version", key_version),
            ("version", secret_version),
            ("session", session_name),
        ]
        return b"".join(self.token(account, field, value) for field, value in fields if value or field == "account")


class Index:
    """Which spans have which tokens. `note` is called by the sequencer alone, anyone may search."""

    def __init__(self, engine: Engine, store: LogStore) -> None:
        self._engine = engine
        self._store = store
        # Nodes that are not in the database yet: the one being filled, and full ones on their way there.
        self._nodes: dict[int, Masks] = {}
        self._full: list[int] = []
        self._work = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._keep_writing, name="audit-index", daemon=True)

    def load(self, size: int) -> None:
        """Reads what is not in the database of a log of `size` leaves, and begins to write nodes as they fill up."""
        with reading(self._engine) as connection:
            last = connection.execute(select(func.max(index_blocks.c.node))).scalar()
        first = 0 if last is None else (int(last) + 1) * NODE_LEAVES
        for start in range(first, size, NODE_LEAVES):
            self.note(start, self._store.tokens(start, min(start + NODE_LEAVES, size)))
        self._thread.start()

    def stop(self) -> None:
        """Ends writing."""
        with self._work:
            self._stopping = True
            self._work.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def note(self, first_index: int, tokens: Sequence[bytes]) -> None:
        """Takes up leaves that were added to the log, with their tokens."""
        end = first_index + len(tokens)
        for start in range(first_index // SPAN * SPAN, end, SPAN):
            of_span = tokens[max(start - first_index, 0) : start + SPAN - first_index]
            node, inside = divmod(start, NODE_LEAVES)
            self._note_span(self._nodes.setdefault(node, {}), 1 << inside // SPAN, of_span)
            if inside + SPAN == NODE_LEAVES and start + SPAN <= end:
                with self._work:
                    self._full.append(node)
                    self._work.notify()

    def spans(self, tokens: Sequence[bytes], start: int, end: int, *, newest_first: bool) -> Iterator[int]:
        """The spans between two leaves whose leaves have all of the tokens between them, in order of the log."""
        if start >= end:
            return
        first, last = start // NODE_LEAVES, (end - 1) // NODE_LEAVES
        # Before the database: a node that moves there meanwhile is found here.
        in_memory = dict(self._nodes)
        stored = self._stored(tokens, first, last)
        nodes = range(first, last + 1)
        for node in reversed(nodes) if newest_first else nodes:
            masks = in_memory.get(node)
            mask = _mask(masks, tokens) if masks is not None else stored.get(node, 0)
            for span in _bits(mask, newest_first):
                number = node * SPANS + span
                if start < (number + 1) * SPAN and number * SPAN < end:
                    yield number

    def _note_span(self, masks: Masks, bit: int, tokens: Sequence[bytes]) -> None:
        kinds = set()
        for joined in tokens:
            # The last token is the trace's, and all before it are those of a kind.
            kinds.add(joined[:-TOKEN_BYTES])
            last = joined[-TOKEN_BYTES:] or _UNTOKENED
            masks[last] = masks.get(last, 0) | bit
        for kind in kinds:
            for at in range(0, len(kind), TOKEN_BYTES):
                token = kind[at : at + TOKEN_BYTES]
                masks[token] = masks.get(token, 0) | bit

    def _stored(self, tokens: Sequence[bytes], first: int, last: int) -> dict[int, int]:
        masks: dict[int, int] = {}
        with reading(self._engine) as connection:
            for token in tokens:
                query = select(index_blocks.c.node, index_blocks.c.pairs).where(
                    index_blocks.c.block == token[0] >> _BLOCK_SHIFT,
                    index_blocks.c.node >= first,
                    index_blocks.c.node <= last,
                )
                for node, pairs in connection.execute(query):
                    found = _mask_in(pairs, token)
                    masks[node] = masks[node] & found if node in masks else found
        return masks

    def _keep_writing(self) -> None:
        while True:
            with self._work:
                while not self._full and not self._stopping:
                    self._work.wait()
                if self._stopping:
                    return
                node = self._full[0]
            try:
                self._write(node)
            except (StrongroomError, DBAPIError):
                log.exception("a node of the index was not written")
                with self._work:
                    self._work.wait(_RETRY_SECONDS)
            else:
                del self._full[0]
                del self._nodes[node]

    def _write(self, node: int) -> None:
        masks = self._nodes[node]
        blocks: list[list[bytes]] = [[] for _ in range(_BLOCKS)]
        for token in sorted(masks.keys() - {_UNTOKENED}):
            block = blocks[token[0] >> _BLOCK_SHIFT]
            block.extend(_PAIR.pack(token, span) for span in _bits(masks[token], False))
        # Leaves without tokens may have any: every block has to say so.
        anything = [_PAIR.pack(_UNTOKENED, span) for span in _bits(masks.get(_UNTOKENED, 0), False)]
        rows = [
            {"block": number, "node": node, "pairs": b"".join(anything + pairs)} for number, pairs in enumerate(blocks)
        ]
        with transaction(self._engine) as connection:
            connection.execute(insert(index_blocks), rows)


def _mask(masks: Masks, tokens: Sequence[bytes]) -> int:
    mask = -1
    for token in tokens:
        mask &= masks.get(token, 0)
    return mask | masks.get(_UNTOKENED, 0)


def _mask_in(pairs: bytes, token: bytes) -> int:
    """The spans that have a token, by a block's sorted pairs."""
    return _run(pairs, token) | _run(pairs, _UNTOKENED)


def _run(pairs: bytes, token: bytes) -> int:
    mask, position = 0, pairs.find(token)
    while position >= 0 and position % _PAIR.size:
        position = pairs.find(token, position + 1)
    while position >= 0 and pairs.startswith(token, position):
        mask |= 1 << pairs[position + TOKEN_BYTES]
        position += _PAIR.size
    return mask


def _bits(mask: int, descending: bool) -> Iterator[int]:
    numbers = range(mask.bit_length())
    return (number for number in (reversed(numbers) if descending else numbers) if mask >> number & 1)
