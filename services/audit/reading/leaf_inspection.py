"""Looks through the leaves: whether each is there and opens, and whether what stands beside it, by which it is found,
is what its event says. The index is looked through with them, and put right: all of it follows from the leaves.

The log verifies whatever stands beside its leaves; this is what notices. Some of them at each look, over and over, so
that a long log is gone through by and by.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from services.audit.index.inspection import IndexInspection
from services.audit.index.tokens import Tokens
from services.audit.keys.sealing import Sealer
from services.audit.log.entries import event_key, event_time_us
from services.audit.reading.strays import Stray, Strays
from services.audit.retention.archive import Archive
from services.audit.storage.store import Leaf, LeafRow
from services.runtime.errors import Reason, StrongroomError
from strongroom.audit.v1.event_pb2 import Event
from strongroom.tlog.tiles import WIDTH

log = logging.getLogger(__name__)

_BUNDLES_AT_ONCE = 80
# Between two bundles, so that whoever waits for the interpreter gets it.
_BREATH_SECONDS = 0.001


@dataclass(slots=True)
class _Pass:
    """Over the whole log."""

    bundle: int = 0
    high_us: int = 0
    missing: int = 0
    disordered: bool = False


class LeafInspection:
    """Of one log."""

    def __init__(
        self,
        archive: Archive,
        sealer: Sealer,
        tokens: Tokens,
        strays: Strays,
        index: IndexInspection,
        size: Callable[[], int],
    ) -> None:
        self._archive = archive
        self._sealer = sealer
        self._tokens = tokens
        self.strays = strays
        """What was found."""
        self._index = index
        self._size = size
        self._lock = threading.Lock()
        self._pass = _Pass()
        self.missing_leaves = 0
        """Leaves that are not there."""

    def look(self) -> None:
        """One look. Raises what crypto raises, DATABASE_UNAVAILABLE."""
        with self._lock:
            for _ in range(_BUNDLES_AT_ONCE):
                if self._look_at_bundle():
                    break
                time.sleep(_BREATH_SECONDS)
            self._index.look()

    def check(self) -> None:
        """Raises AUDIT_RECORD_REFUSED while something is wrong."""
        if self.missing_leaves or len(self.strays) or self.strays.disordered:
            raise StrongroomError(
                Reason.AUDIT_RECORD_REFUSED,
                f"{self.missing_leaves} leaves of the audit log are missing from its database, and {len(self.strays)}"
                " do not open or have something else beside them than what is in them",
            )

    def _look_at_bundle(self) -> bool:
        """Whether it was the last."""
        going, size = self._pass, self._size()
        first = going.bundle * WIDTH
        end = min(first + WIDTH, size)
        strays: list[Stray] = []
        seen, is_found = 0, self._archive.is_found(going.bundle)
        # Otherwise nothing of it is found by what the archive says of it.
        going.disordered |= not is_found
        for row in self._archive.whole_bundle(going.bundle):
            if first <= row[0] < end:
                seen += 1
                strays.extend(self._strays_in(row, going, is_found))
        going.missing += end - first - seen
        for one in strays:
            if one.leaf.leaf_index not in self.strays:
                fields = {"leaf": one.leaf.leaf_index, "opens": one.readable}
                log.error("a row of the audit log is not what the service wrote", extra={"fields": fields})
        self.strays.put(first, end, strays)
        # Also told before the pass is through.
        self.missing_leaves = max(self.missing_leaves, going.missing)
        self.strays.disordered |= going.disordered
        if end < size:
            going.bundle += 1
            return False
        self.missing_leaves, self.strays.disordered = going.missing, going.disordered
        self._pass = _Pass()
        return True

    def _strays_in(self, row: LeafRow, going: _Pass, is_found: bool) -> Iterator[Stray]:
        index, event_id, time_us, high_us, tokens, sealed = row
        event, readable = self._opened(sealed)
        if event is None:
            going.high_us = max(going.high_us, high_us)
            self._index.note(index, tokens)
            if not readable:
                account = self._sealer.account_of(sealed)
                yield Stray(account, event_id, Leaf(index, time_us, high_us, sealed), readable=False)
            return
        right_us, right_tokens = event_time_us(event), self._tokens.of(event)
        going.high_us = max(going.high_us, right_us)
        self._index.note(index, right_tokens if tokens else b"")
        going.disordered |= high_us != going.high_us
        # Where there are none, every lookup looks at the leaf.
        is_found &= tokens in (right_tokens, b"") or not right_tokens
        if (event_id, time_us, high_us) != (event_key(event), right_us, going.high_us) or not is_found:
            right = Leaf(index, right_us, going.high_us, sealed)
            yield Stray(event.account, event_key(event), right)

    def _opened(self, sealed: bytes) -> tuple[Event | None, bool]:
        """The event, and whether it is readable or was made unreadable by the service."""
        try:
            opened = self._sealer.open(sealed)
        except StrongroomError as error:
            if error.reason not in (Reason.AUDIT_RECORD_REFUSED, Reason.KEY_MATERIAL_REFUSED):
                raise
            return None, False
        return (Event.FromString(opened) if opened is not None else None), True
