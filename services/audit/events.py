"""Reading the log: one event, and pages of events in order of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

from services.audit.sealing import Sealer
from services.audit.store import Leaf, LogStore, Position
from services.runtime.errors import Reason, StrongroomError
from strongroom.audit.v1.event_pb2 import Event

# A page looks at this many events at most before it answers with what it has found and where to go on.
_SCANNED_PER_PAGE = 10_000
_CHUNK = 256

Filter = Callable[[Event], bool]


@dataclass(frozen=True, slots=True)
class Period:
    """start ≤ time < end in microseconds since the Unix epoch; None is open."""

    start_us: int | None = None
    end_us: int | None = None


class Events:
    """The events of the log, unsealed for those who may read them."""

    def __init__(self, store: LogStore, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer

    def get(self, account: str, event_id: str) -> Event:
        """One event. Raises EVENT_NOT_FOUND."""
        leaf = self._store.by_event(account, UUID(event_id).bytes)
        event = self._opened(leaf) if leaf else None
        if event is None:
            raise StrongroomError(Reason.EVENT_NOT_FOUND, f"account {account} has no event {event_id}")
        return event

    def page(
        self,
        account: str,
        period: Period,
        wanted: Filter,
        after: Position | None,
        size: int,
        *,
        newest_first: bool,
    ) -> tuple[list[Event], Position | None]:
        """Up to `size` events that pass the filter, and where the next page begins; None when there is none."""
        found: list[Event] = []
        for scanned, leaf in enumerate(self._leaves(account, period, after, newest_first=newest_first)):
            if len(found) == size or scanned == _SCANNED_PER_PAGE:
                return found, after
            after = (leaf.time_us, leaf.leaf_index)
            event = self._opened(leaf)
            if event is not None and wanted(event):
                found.append(event)
        return found, None

    def _leaves(self, account: str, period: Period, after: Position | None, *, newest_first: bool) -> Iterator[Leaf]:
        while True:
            leaves = self._store.by_time(
                account, period.start_us, period.end_us, after, _CHUNK, newest_first=newest_first
            )
            yield from leaves
            if len(leaves) < _CHUNK:
                return
            after = (leaves[-1].time_us, leaves[-1].leaf_index)

    def _opened(self, leaf: Leaf) -> Event | None:
        event = self._sealer.open(leaf.leaf)
        return Event.FromString(event) if event is not None else None
