"""The outbox: a change and the event that records it commit together, in the service's own database.

The pipeline appends the event to the audit log before the call answers. If the process dies, or audit is away, between
the commit and the append, the relay appends what is left; audit knows repeats by the event's id. An event that the log
does not take is set aside, which an event of its own tells of, and keeps no other waiting.

The relay speaks for the service. So where a database's rows are sealed, those of its outbox are, and one that the
service did not write is set aside unread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol
from uuid import UUID

from google.protobuf.message import DecodeError
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from services.runtime import event_bounds, identifiers
from services.runtime.background import Background
from services.runtime.call import Call
from services.runtime.clock import Clock, from_microseconds, system_clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage import row_seals, sealed_rows
from services.runtime.storage.database import after_commit, reading, transaction, witnessed
from services.runtime.storage.row_seals import SEAL, UNSEALED, RowSeals
from strongroom.audit.v1.event_pb2 import Event, Outcome

log = logging.getLogger(__name__)

_RELAY_SECONDS = 0.5
_LEFT_BEHIND_US = 5_000_000
_BATCH = 256
_WATCHED = 4_096
_BATCH_BYTES = event_bounds.MAX_CALL_BYTES
_UNDECODABLE = "UNDECODABLE"
_FOREIGN = "NOT_WRITTEN_BY_THIS_SERVICE"
_SET_ASIDE = "audit:SetEventAside"
_PAYER = "outbox"
# Of an event's id that somebody else wrote.
_SHOWN = 40


# Who writes here could as well take the row away.
_WHEN = {UNSEALED: True}


def outbox_table(metadata: MetaData, *more: Column[bytes]) -> Table:
    """The table as every database that has an outbox defines it; `more` is a seal where its rows have one."""
    return Table(
        "outbox",
        metadata,
        Column("event_id", String(36), primary_key=True),
        Column("event", LargeBinary, nullable=False),
        Column("created_us", BigInteger, nullable=False, index=True, info=_WHEN),
        # Set where the log does not take the event: when it was set aside, and why.
        Column("refused_us", BigInteger, info=_WHEN),
        Column("refused_reason", String(64), info=_WHEN),
        *more,
    )


_outbox = outbox_table(MetaData())
_sealed_outbox = outbox_table(MetaData(), row_seals.seal_column())


def seal_all(connection: Connection) -> int:
    """Seals the rows from before they were sealed, as they are; how many they were."""
    return sealed_rows.seal_all(connection, _sealed_outbox)


@dataclass(frozen=True, slots=True)
class _Left:
    """A row that was left behind."""

    event_id: str
    data: bytes
    event: Event


@dataclass(slots=True)
class _Found:
    """The oldest rows that were left behind."""

    left: list[_Left] = field(default_factory=list)
    undecodable: list[_Left] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    """Those that this service did not write."""
    refused: int = 0
    """How many were set aside."""


class Appends(Protocol):
    """The way to the audit log."""

    def append(self, events: Sequence[Event], traceparent: str = "", payer: str = "") -> None:
        """Returns once events are durable; one that is there already keeps its place. Raises EVENT_REFUSED for those
        that the log does not take."""


class Outbox:
    """The outbox of one database, and the thread that empties it."""

    def __init__(
        self,
        engine: Engine,
        audit: Appends,
        service: str = "",
        meter: Meter | None = None,
        clock: Clock = system_clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`service` is who tells of events that were set aside: `services/keystore`."""
        self._engine = engine
        self._audit = audit
        self._service = service
        self._clock = clock
        self._monotonic = monotonic
        self._seen: dict[str, float] = {}
        self._delivered: list[str] = []
        self._refused = 0
        self._relaying = Background(
            "outbox-relay",
            self.sweep,
            "events in the outbox could not be sent to the audit log",
            every=_RELAY_SECONDS,
            first=_RELAY_SECONDS,
            finishes=True,
        )
        if meter is not None:
            meter.create_observable_gauge(
                "outbox.refused", [self._observe], "{event}", "events that the audit log does not take"
            )

    def start(self) -> None:
        """Begins to relay what earlier processes left."""
        self._relaying.start()

    def stop(self) -> None:
        """Removes what was delivered, and ends."""
        self._relaying.stop()

    @property
    def refused(self) -> int:
        """How many events stand in it that the log does not take."""
        return self._refused

    def check(self) -> None:
        """Raises EVENT_REFUSED while events stand in the outbox that the log does not take."""
        if self._refused:
            raise StrongroomError(
                Reason.EVENT_REFUSED,
                f"{self._refused} events in the outbox are not in the audit log, which does not take them: look at the "
                "rows with refused_us, keep them elsewhere, and delete them",
                peer="audit",
            )

    def put(self, connection: Connection, call: Call) -> None:
        """Stores the call's events in the `transaction` of the change that they record; the change of a call that
        nobody has permitted does not come about. Where it does not commit, the call's events do not say that it did."""
        call.require_permitted()
        call.foresee()
        now = self._clock.now_us()
        rows = [self._row(event, now) for event in call.events]
        witnessed(connection, insert(self._table).values(rows[0]))
        if rows[1:]:
            connection.execute(insert(self._table), rows[1:])
        after_commit(connection, lambda: call.committed(self))

    def delivered(self, events: Iterable[Event]) -> None:
        """Notes that events are in the audit log; their rows leave with the next sweep."""
        self._delivered += [event.id for event in events]

    def sweep(self) -> None:
        """Removes what was delivered, and appends what was left behind."""
        self._remove(self._delivered)
        while True:
            found = self._left_behind()
            self._refused = found.refused
            if found.foreign:
                self._set_aside_foreign(found.foreign)
            for row in found.undecodable:
                self._set_aside(row, _UNDECODABLE)
            if found.left:
                self._append(found.left)
            if not found.left and not found.undecodable and not found.foreign:
                return

    @property
    def _seals(self) -> RowSeals | None:
        return row_seals.found(self._engine)

    @property
    def _table(self) -> Table:
        return _outbox if self._seals is None else _sealed_outbox

    def _row(self, event: Event, now_us: int) -> dict[str, Any]:
        row = {"event_id": event.id, "event": event.SerializeToString(), "created_us": now_us}
        seals = self._seals
        return row if seals is None else {**row, SEAL: seals.seal(_sealed_outbox, row)}

    def _left_behind(self) -> _Found:
        """The oldest rows, as many as one append carries."""
        table, seals = self._table, self._seals
        waiting = table.c.refused_us.is_(None)
        found, size = _Found(), 0
        with reading(self._engine) as connection:
            oldest = select(table).where(waiting, self._is_overdue(connection, table)).order_by(table.c.created_us)
            oldest = oldest.limit(_BATCH)
            found.refused = connection.scalar(select(func.count()).select_from(table).where(~waiting)) or 0
            for stored in connection.execute(oldest):
                if not _is_ours(stored, seals, table):
                    found.foreign.append(stored.event_id)
                    continue
                row = _Left(stored.event_id, stored.event, Event())
                try:
                    row.event.ParseFromString(row.data)
                except DecodeError:
                    found.undecodable.append(row)
                    continue
                # One of an earlier release may be larger than any is now.
                event_bounds.bound(row.event)
                size += row.event.ByteSize()
                if found.left and size > _BATCH_BYTES:
                    break
                found.left.append(row)
        return found

    def _is_overdue(self, connection: Connection, table: Table) -> ColumnElement[bool]:
        """Which rows were left behind: by this process's clock, and where others with clocks of their own put rows
        into the same database, after it has seen them for as long. One whose COMMIT was not answered finds out by its
        row whether it stands (commits.py)."""
        now_us = self._clock.now_us()
        # What was put while the clock was ahead does not wait until that time has come.
        overdue = or_(table.c.created_us < now_us - _LEFT_BEHIND_US, table.c.created_us > now_us + _LEFT_BEHIND_US)
        if self._engine.dialect.name == "sqlite":
            # Its COMMIT always says what stands.
            return overdue
        waiting = select(table.c.event_id).where(table.c.refused_us.is_(None), overdue)
        now, seen = self._monotonic(), self._seen
        self._seen = {
            event_id: seen.get(event_id, now)
            for event_id in connection.scalars(waiting.order_by(table.c.created_us).limit(_WATCHED))
        }
        long = [event_id for event_id, since in self._seen.items() if now - since >= _LEFT_BEHIND_US / 1_000_000]
        return table.c.event_id.in_(long[:_BATCH])

    def _append(self, rows: Sequence[_Left]) -> None:
        """Appends events; where the log refuses them, in halves, until what it refuses stands alone."""
        try:
            self._audit.append([row.event for row in rows], payer=_PAYER)
        except StrongroomError as error:
            if error.reason is not Reason.EVENT_REFUSED:
                raise
            if len(rows) == 1:
                self._set_aside(rows[0], error.metadata.get("said", error.reason))
                return
            middle = len(rows) // 2
            self._append(rows[:middle])
            self._append(rows[middle:])
        else:
            self._remove([row.event_id for row in rows])
            log.info(
                "sent events to the audit log that an earlier process or outage had left in the outbox",
                extra={"fields": {"count": len(rows)}},
            )

    def _set_aside(self, row: _Left, reason: str) -> None:
        """Has a row wait no longer, once an event in the log says so: a log that does not even take that one takes
        none, and the row stays for better times."""
        self._audit.append([self._told(row, reason)], payer=_PAYER)
        log.error(
            "the audit log refuses an event of the outbox; it was set aside",
            extra={"fields": {"event_id": row.event_id, "reason": reason}},
        )
        self._mark([row.event_id], reason)

    def _set_aside_foreign(self, event_ids: Sequence[str]) -> None:
        """Has rows wait no longer that somebody else wrote: one event tells of all of them, and of nothing in them."""
        names = [_shown(event_id) for event_id in event_ids]
        told = self._tells(" ".join(names), _FOREIGN)
        told.attributes["event_count"] = str(len(names))
        told.attributes["event_id"] = names[0]
        self._audit.append([told], payer=_PAYER)
        log.error(
            "rows in the outbox were not written by this service; they were set aside",
            extra={"fields": {"count": len(names), "event_id": names[0]}},
        )
        self._mark(event_ids, _FOREIGN)

    def _mark(self, event_ids: Sequence[str], reason: str) -> None:
        values = {"refused_us": self._clock.now_us(), "refused_reason": reason[:64]}
        with transaction(self._engine) as connection:
            connection.execute(update(_outbox).where(_outbox.c.event_id.in_(event_ids)).values(values))

    def _tells(self, of: str, reason: str) -> Event:
        told = Event(
            # The same each time: a repeat keeps its place in the log.
            id=str(UUID(bytes=sha256(f"{_SET_ASIDE} {of}".encode()).digest()[:16])),
            time=from_microseconds(self._clock.now_us()),
            principal=self._service,
            method="SetEventAside",
            action=_SET_ASIDE,
            outcome=Outcome.OUTCOME_FAILED,
            reason=Reason.EVENT_REFUSED,
            item_count=1,
        )
        told.attributes["refused_reason"] = reason
        return told

    def _told(self, row: _Left, reason: str) -> Event:
        told = self._tells(row.event_id, reason)
        told.attributes["event_id"] = row.event_id
        told.attributes["event_sha256"] = sha256(row.data).hexdigest()
        told.attributes["event_bytes"] = str(len(row.data))
        for name in ("account", "principal", "action", "resource"):
            told.attributes[f"event_{name}"] = getattr(row.event, name)[:200]
        return told

    def _remove(self, event_ids: list[str]) -> None:
        while event_ids:
            batch = event_ids[:_BATCH]
            with transaction(self._engine) as connection:
                connection.execute(delete(_outbox).where(_outbox.c.event_id.in_(batch)))
            del event_ids[: len(batch)]

    def _observe(self, _: CallbackOptions) -> Iterable[Observation]:
        yield Observation(self._refused)


def _shown(event_id: object) -> str:
    """An id of a row that somebody else wrote: as it is where it is one, so that it is found by it."""
    return event_id if isinstance(event_id, str) and identifiers.is_uuid(event_id) else ascii(event_id)[:_SHOWN]


def _is_ours(stored: Row[Any], seals: RowSeals | None, table: Table) -> bool:
    """Whether a row is as this service wrote it, as far as that can be known. SQLite keeps what it is given."""
    if seals is not None:
        return seals.is_good(table, stored._mapping)
    return isinstance(stored.event, bytes) and isinstance(stored.event_id, str)
