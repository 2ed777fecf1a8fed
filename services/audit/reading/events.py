"""Reading the log: one event, and pages of events in order of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush, merge
from itertools import chain, islice
from uuid import UUID

from services.audit.index.postings import SPAN
from services.audit.index.tokens import Tokens
from services.audit.index.tree import Index
from services.audit.keys.sealing import Sealer
from services.audit.reading.strays import Strays
from services.audit.retention.archive import Archive
from services.audit.storage.store import Leaf, LogStore, Position
from services.audit.storage.tables import ON_TIME_US
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests import paging
from strongroom.audit.v1.event_pb2 import Event, Outcome
from strongroom.tlog.tiles import WIDTH

# A page looks at this many events at most before it answers with what it has found and where to go on.
_SCANNED_PER_PAGE = 10_000
_CHUNK = 256
_FEW_SPANS = 4
_MOST_SPANS = 32
_FIRST: Position = (-(1 << 62), 0)
_BEHIND_LAST: Position = (1 << 62, 0)


@dataclass(frozen=True, slots=True)
class Period:
    """start ≤ time < end in microseconds since the Unix epoch; None is open."""

    start_us: int | None = None
    end_us: int | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """Which events of an account; every condition that is set has to hold."""

    account: str
    principal: str = ""
    action: str = ""
    resource: str = ""
    resource_version: str = ""
    session_name: str = ""
    trace_id: str = ""
    outcome: Outcome.ValueType = Outcome.OUTCOME_UNSPECIFIED
    text: str = ""
    """Occurs in a text field, whatever the case."""

    def tokens(self, tokens: Tokens) -> list[bytes]:
        """What the index finds such events by. Raises AUDIT_SEALING_KEY_UNAVAILABLE."""
        fields = [
            ("principal", self.principal),
            ("action", self.action),
            ("resource", self.resource),
            ("version", self.resource_version),
            ("session", self.session_name),
            ("trace", self.trace_id),
            ("outcome", str(self.outcome) if self.outcome else ""),
        ]
        found = [tokens.token(self.account, field, value) for field, value in fields if value]
        return found or [tokens.token(self.account, "account", self.account)]

    def wants(self, event: Event) -> bool:
        """Whether an event is one of these: what the index finds may be others."""
        return (
            event.account == self.account
            and self.principal in ("", event.principal)
            and self.session_name in ("", event.session_name)
            and self.action in ("", event.action)
            and self.resource in ("", event.resource)
            and self.resource_version in ("", event.key_version, event.secret_version)
            and self.trace_id in ("", event.trace_id)
            and self.outcome in (Outcome.OUTCOME_UNSPECIFIED, event.outcome)
            and (not self.text or _has_text(event, self.text.casefold()))
        )


@dataclass(slots=True)
class Unread:
    """Events that a reading came by, and could not read."""

    shredded: int = 0
    """Made unreadable."""
    refused: int = 0
    """Though nobody made them so."""


class Events:
    """The events of the log, unsealed for those who may read them."""

    def __init__(
        self, store: LogStore, sealer: Sealer, tokens: Tokens, index: Index, archive: Archive, strays: Strays
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._tokens = tokens
        self._index = index
        self._archive = archive
        self._strays = strays
        self.refused_count = 0
        """Leaves that could not be read though nobody made them unreadable, since the process began."""

    def get(self, account: str, event_id: str) -> Event:
        """One event. Raises EVENT_NOT_FOUND, EVENT_SHREDDED, AUDIT_RECORD_REFUSED for one that is not readable though
        nobody made it so."""
        sealed = self._sealer.open(self.leaf(account, event_id).leaf)
        if sealed is None:
            raise StrongroomError(Reason.EVENT_SHREDDED, f"event {event_id} was made unreadable")
        event = Event.FromString(sealed)
        if (event.account, event.id) != (account, event_id):
            # Whose it is says the event itself, whatever stands beside it.
            raise _no_event(account, event_id)
        return event

    def leaf(self, account: str, event_id: str) -> Leaf:
        """The leaf of one event of an account. Raises EVENT_NOT_FOUND."""
        key = UUID(event_id).bytes
        leaf = self._strays.of_event(key) or self._store.by_event(key) or self._archive.by_event(key)
        if leaf is None or self._sealer.account_of(leaf.leaf) != account:
            raise _no_event(account, event_id)
        return leaf

    def page(
        self,
        query: Query,
        period: Period,
        after: Position | None,
        size: int,
        *,
        newest_first: bool,
        archive: bool = False,
    ) -> tuple[list[Event], Position | None]:
        """Up to `size` events, of the `archive` too if that is asked for, and where the next page begins; None when
        there is none. There are fewer where more would be too large for one answer."""
        found: list[Event] = []
        size_bytes = 0
        leaves = self.leaves(query, period, after, newest_first=newest_first, archive=archive)
        for scanned, leaf in enumerate(leaves):
            if len(found) == size or scanned == _SCANNED_PER_PAGE:
                return found, after
            event = self.opened(leaf.leaf)
            if event is not None and query.wants(event):
                size_bytes += event.ByteSize()
                if found and size_bytes > paging.LARGEST_BYTES:
                    return found, after
                found.append(event)
            after = leaf.position
        return found, None

    def leaves(
        self, query: Query, period: Period, after: Position | None, *, newest_first: bool, archive: bool
    ) -> Iterator[Leaf]:
        """The leaves in order of time that hold such events, and some that do not: see `Query.wants`."""
        lower = _FIRST if period.start_us is None else (period.start_us, 0)
        upper = _BEHIND_LAST if period.end_us is None else (period.end_us, 0)
        if after is not None and newest_first:
            upper = min(upper, after)
        elif after is not None:
            lower = max(lower, (after[0], after[1] + 1))
        tokens = query.tokens(self._tokens)
        return merge(
            self._where_it_is(self._on_time(tokens, lower, upper, newest_first, archive)),
            self._where_it_is(self._late(tokens, lower, upper, newest_first)),
            self._stray(query.account, lambda leaf: lower <= leaf.position < upper, newest_first),
            key=lambda leaf: leaf.position,
            reverse=newest_first,
        )

    def following(self, query: Query, start: int, end: int, start_us: int) -> Iterator[tuple[int, Event]]:
        """The events at places of the log from `start` to, not including, `end`, in that order, which are of `start_us`
        or later."""
        found = self._where_it_is(self._between(query.tokens(self._tokens), start, end))
        strays = self._stray(query.account, lambda leaf: start <= leaf.leaf_index < end)
        for leaf in merge(found, sorted(strays, key=lambda leaf: leaf.leaf_index), key=lambda leaf: leaf.leaf_index):
            event = self.opened(leaf.leaf) if leaf.time_us >= start_us else None
            if event is not None and query.wants(event):
                yield leaf.leaf_index, event

    def in_period(self, query: Query, period: Period, unread: Unread) -> Iterator[Event]:
        """Every such event of a period, in no order; adds to `unread` those that cannot be read."""
        lower = _FIRST[0] if period.start_us is None else period.start_us
        upper = _BEHIND_LAST[0] if period.end_us is None else period.end_us
        # A leaf that is late may stand anywhere behind.
        start, end = self.first_at(lower), self._store.head().size
        found = self._where_it_is(self._between(query.tokens(self._tokens), start, end))
        for leaf in chain(found, self._stray(query.account, lambda _: True)):
            event = self.opened(leaf.leaf, unread) if lower <= leaf.time_us < upper else None
            if event is not None and query.wants(event):
                yield event
        # Nobody knows of when they are.
        unread.refused += sum(not one.readable for one in self._strays.of(query.account))

    def first_at(self, time_us: int) -> int:
        """The first place of the log at which an event of this time or later can be."""
        return 0 if self._strays.disordered else self._first(self._store.head().size, time_us)

    def _where_it_is(self, leaves: Iterator[Leaf]) -> Iterator[Leaf]:
        """Those of leaves that were found that stand where their events belong."""
        return (leaf for leaf in leaves if leaf.leaf_index not in self._strays)

    def _stray(self, account: str, within: Callable[[Leaf], bool], newest_first: bool = False) -> Iterator[Leaf]:
        """The others of an account, as far as they are known, in order."""
        found = [one.leaf for one in self._strays.of(account) if one.readable and within(one.leaf)]
        return iter(sorted(found, key=lambda leaf: leaf.position, reverse=newest_first))

    def _between(
        self, tokens: Sequence[bytes], start: int, end: int, *, newest_first: bool = False, archive: bool = True
    ) -> Iterator[Leaf]:
        """Leaves of a range that have all of the tokens, in order of the log."""
        spans = self._index.spans(tokens, start, end, newest_first=newest_first)
        count = _FEW_SPANS
        # A few at first, which often suffice; more at once, where they have one leaf each.
        while some := list(islice(spans, count)):
            ranges = [(max(start, span * SPAN), min(end, (span + 1) * SPAN)) for span in some]
            found = self._store.matching(ranges, tokens, newest_first=newest_first)
            if archive:
                found += self._archive.matching(ranges, tokens)
                found.sort(key=lambda leaf: leaf.leaf_index, reverse=newest_first)
            yield from found
            count = min(2 * count, _MOST_SPANS)

    def opened(self, leaf: bytes, unread: Unread | None = None) -> Event | None:
        """The event in a leaf; None when it was made unreadable, or is it without having been made so, which
        `KeyInspection` tells, and which of the two `unread`."""
        try:
            event = self._sealer.open(leaf)
        except StrongroomError as error:
            if error.reason is not Reason.AUDIT_RECORD_REFUSED:
                raise
            self.refused_count += 1
            if unread is not None:
                unread.refused += 1
            return None
        if event is None:
            if unread is not None:
                unread.shredded += 1
            return None
        return Event.FromString(event)

    def _on_time(
        self, tokens: Sequence[bytes], lower: Position, upper: Position, newest_first: bool, archive: bool
    ) -> Iterator[Leaf]:
        """Those that are not late, in order of time.

        The log is in that order but for a second, so leaves wait in a heap until no other can come before them.
        """
        size = self._store.head().size
        start = self.first_at(lower[0])
        # Of archived leaves only the latest time of their bundle is known here.
        end = min(self._first(size, upper[0] + ON_TIME_US + 1) + WIDTH, size)
        if self._strays.disordered:
            end = size
        waiting: list[tuple[Position, Leaf]] = []
        for leaf in self._between(tokens, start, end, newest_first=newest_first, archive=archive):
            time_us, index = leaf.position
            if lower <= leaf.position < upper and not leaf.is_late:
                heappush(waiting, ((-time_us, -index) if newest_first else (time_us, index), leaf))
            while waiting and _is_settled(waiting[0][1], leaf, newest_first):
                yield heappop(waiting)[1]
        while waiting:
            yield heappop(waiting)[1]

    def _late(self, tokens: Sequence[bytes], lower: Position, upper: Position, newest_first: bool) -> Iterator[Leaf]:
        while True:
            leaves = self._store.late(lower, upper, tokens, _CHUNK, newest_first=newest_first)
            yield from leaves
            if len(leaves) < _CHUNK:
                return
            if newest_first:
                upper = leaves[-1].position
            else:
                lower = leaves[-1].time_us, leaves[-1].leaf_index + 1

    def _first(self, size: int, time_us: int) -> int:
        """The first leaf of which the latest time so far is this or later; `size` when that of none is."""
        low, high = 0, size
        # Most often it is an end.
        if time_us <= _FIRST[0]:
            return 0
        if size == 0 or time_us > _BEHIND_LAST[0] or self._store.high_us(size - 1) < time_us:
            return size
        while low < high:
            middle = (low + high) // 2
            if self._store.high_us(middle) >= time_us:
                high = middle
            else:
                low = middle + 1
        return low


def _no_event(account: str, event_id: str) -> StrongroomError:
    return StrongroomError(Reason.EVENT_NOT_FOUND, f"account {account} has no event {event_id}")


def _is_settled(waiting: Leaf, read: Leaf, newest_first: bool) -> bool:
    """Whether no leaf behind `read`, in the order of reading, comes before `waiting` in order of time."""
    if newest_first:
        return waiting.time_us >= read.high_us
    return waiting.time_us <= read.high_us - ON_TIME_US


def _has_text(event: Event, folded: str) -> bool:
    """Whether one of an event's text fields has this in it."""
    texts = [getattr(event, field.name) for field in event.DESCRIPTOR.fields if field.type == field.TYPE_STRING]
    pairs = (*event.encryption_context.items(), *event.attributes.items())
    return any(folded in text.casefold() for text in (*texts, *(f"{key}={value}" for key, value in pairs)))
