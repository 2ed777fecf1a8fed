"""The outbox: a change and the event that records it commit together, in the service's own database.

The pipeline appends the event to the audit log before the call answers. If the process dies, or audit is away, between
the commit and the append, the relay appends what is left; audit knows repeats by the event's id.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    insert,
    select,
)

from services.runtime.audit import AuditClient
from services.runtime.call import Call
from services.runtime.database import reading, transaction
from services.runtime.errors import StrongroomError
from strongroom.audit.v1.event_pb2 import Event, Outcome

log = logging.getLogger(__name__)

_RELAY_SECONDS = 0.5
_LEFT_BEHIND_US = 5_000_000
_BATCH = 256


def outbox_table(metadata: MetaData) -> Table:
    """The table as every database that has an outbox defines it."""
    return Table(
        "outbox",
        metadata,
        Column("event_id", String(36), primary_key=True),
        Column("event", LargeBinary, nullable=False),
        Column("created_us", BigInteger, nullable=False, index=True),
    )


_outbox = outbox_table(MetaData())


class Outbox:
    """The outbox of one database, and the thread that empties it."""

    def __init__(self, engine: Engine, audit: AuditClient) -> None:
        self._engine = engine
        self._audit = audit
        self._delivered: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._relay, name="outbox-relay", daemon=True)

    def start(self) -> None:
        """Begins to relay what earlier processes left."""
        self._thread.start()

    def stop(self) -> None:
        """Removes what was delivered, and ends."""
        self._stopping.set()
        self._thread.join(timeout=5)

    def put(self, connection: Connection, call: Call) -> None:
        """Stores the call's events in the transaction of the change that they record."""
        call.conclude(Outcome.OUTCOME_ALLOWED)
        now = time.time_ns() // 1000
        connection.execute(
            insert(_outbox),
            [{"event_id": e.id, "event": e.SerializeToString(), "created_us": now} for e in call.events],
        )
        call.outbox = self

    def delivered(self, events: Iterable[Event]) -> None:
        """Notes that events are in the audit log; their rows leave with the next sweep."""
        self._delivered += [event.id for event in events]

    def _relay(self) -> None:
        while True:
            last = self._stopping.wait(_RELAY_SECONDS)
            try:
                self._sweep()
            except StrongroomError as error:
                log.warning("outbox not emptied", extra={"fields": {"reason": error.reason}})
            if last:
                return

    def _sweep(self) -> None:
        self._remove(self._delivered)
        overdue = time.time_ns() // 1000 - _LEFT_BEHIND_US
        with reading(self._engine) as connection:
            left = select(_outbox.c.event).where(_outbox.c.created_us < overdue).order_by(_outbox.c.created_us)
            events = [Event.FromString(row.event) for row in connection.execute(left.limit(_BATCH))]
        if events:
            self._audit.append(events)
            self._remove([event.id for event in events])
            log.info("relayed events that were left behind", extra={"fields": {"count": len(events)}})

    def _remove(self, event_ids: list[str]) -> None:
        while event_ids:
            batch = event_ids[:_BATCH]
            with transaction(self._engine) as connection:
                connection.execute(delete(_outbox).where(_outbox.c.event_id.in_(batch)))
            del event_ids[: len(batch)]
