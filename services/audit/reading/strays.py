"""Leaves whose row says something else than the event that is sealed in them, so that lookups would not come by them.

Who writes to the database can make such rows, and no key of a reader's. `LeafInspection` finds them, and reading goes
by what is kept here instead.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.audit.storage.store import Leaf
from services.runtime.errors import Reason, StrongroomError

_MOST_BYTES = 16 << 20
_AROUND_BYTES = 500


@dataclass(frozen=True, slots=True)
class Stray:
    """One of them: its leaf with the times that are right, and the account that it is of, where that is known."""

    account: str | None
    event_id: bytes
    leaf: Leaf
    readable: bool = True
    """Otherwise its event is unknown, and its times are those of its row."""


class Strays:
    """Those of one log that are known."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_index: dict[int, Stray] = {}
        self._bytes = 0
        self._is_full = False
        self.disordered = False
        """Whether places of the log cannot be found by time."""

    def __len__(self) -> int:
        return len(self._by_index)

    def __contains__(self, leaf_index: int) -> bool:
        return leaf_index in self._by_index

    def put(self, first: int, end: int, found: Iterable[Stray]) -> None:
        """Those of a range of the log, in the place of what was known of it."""
        with self._lock:
            known = {index: one for index, one in self._by_index.items() if not first <= index < end}
            known.update((one.leaf.leaf_index, one) for one in found)
            self._bytes = sum(len(one.leaf.leaf) + _AROUND_BYTES for one in known.values())
            self._is_full = self._bytes > _MOST_BYTES
            if not self._is_full:
                self._by_index = known

    def of(self, account: str) -> Sequence[Stray]:
        """Those of an account. Raises AUDIT_RECORD_REFUSED where there are more than can be kept in mind."""
        if self._is_full:
            raise StrongroomError(
                Reason.AUDIT_RECORD_REFUSED,
                "too many rows of the audit log say something else than the events in them: put them back from a"
                " backup",
            )
        return [one for one in self._by_index.values() if one.account == account] if self._by_index else ()

    def of_event(self, event_id: bytes) -> Leaf | None:
        """The leaf of an event."""
        return next((one.leaf for one in tuple(self._by_index.values()) if one.event_id == event_id), None)
