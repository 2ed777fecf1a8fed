"""What the writer of a log begins with: where it ends, and the tree's edge, from the database."""

from __future__ import annotations

from services.audit.storage.store import Head, LogStore
from services.runtime.errors import Reason, StrongroomError
from strongroom.tlog import merkle
from strongroom.tlog.text import HASH_BYTES
from strongroom.tlog.tiles import HEIGHT, WIDTH, count_at
from strongroom.tlog.tree import Tree

_LEVELS = 8


def recovered(store: LogStore) -> tuple[Head, Tree]:
    """Where the log ends, and the tree's edge, from the database. Raises AUDIT_STORAGE_FAILED when they contradict
    each other."""
    head = store.head()
    filling = merkle.leaf_hashes(store.entries(head.size // WIDTH * WIDTH, head.size))
    edge = [filling]
    for level in range(1, _LEVELS):
        count = count_at(level, head.size)
        hashes = b"" if count % WIDTH == 0 else store.tile(level, count >> HEIGHT) or b""
        edge.append([hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)])
    missing = [level for level, hashes in enumerate(edge) if len(hashes) != count_at(level, head.size) % WIDTH]
    last = store.entries(head.size - 1, head.size)
    is_end = [merkle.leaf_hash(leaf) for leaf in last] == [head.last_hash][: head.size]
    if missing or not is_end or (head.size and store.high_us(head.size - 1) != head.high_us):
        raise StrongroomError(
            Reason.AUDIT_STORAGE_FAILED, f"the audit database is damaged at its end, leaf {head.size}", peer="audit"
        )
    while edge and not edge[-1]:
        edge.pop()
    return head, Tree(head.size, edge)
