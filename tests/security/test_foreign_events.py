"""Whoever writes to a service's database sends no events with that service's authority."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData

from services.runtime import identifiers
from services.runtime.call import Call, Principal
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage import database, row_seals
from services.runtime.storage.outbox import Outbox, outbox_table
from strongroom.audit.v1.event_pb2 import Event
from tests.support.sealing import sealed

_METADATA = MetaData()
_TABLE = outbox_table(_METADATA, row_seals.seal_column())
SET_ASIDE = "audit:SetEventAside"
FOREIGN = "NOT_WRITTEN_BY_THIS_SERVICE"


class AuditLog:
    """Takes everything."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def append(self, events: Sequence[Event], traceparent: str = "", payer: str = "") -> None:
        del traceparent, payer
        self.events += events

    def told(self) -> list[Event]:
        return [event for event in self.events if event.action == SET_ASIDE]

    def sent(self) -> list[Event]:
        return [event for event in self.events if event.action != SET_ASIDE]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = sealed(database.open_database(Database(url=f"sqlite:///{tmp_path}/own.db")))
    with database.transaction(engine) as connection:
        _METADATA.create_all(connection)
    yield engine
    engine.dispose()


@pytest.fixture
def audit_log() -> AuditLog:
    return AuditLog()


@pytest.fixture
def outbox(engine: Engine, audit_log: AuditLog) -> Outbox:
    return Outbox(engine, audit_log, "services/keystore")


def left_behind(engine: Engine, outbox: Outbox, count: int = 1) -> list[Event]:
    """Events of changes that are committed and not in the log."""
    events: list[Event] = []
    for number in range(count):
        principal = Principal("accounts/acme/users/ann", "acme")
        call = Call("strongroom.access.v1.PolicyService", "CreatePolicy", "access:CreatePolicy", principal=principal)
        events.append(call.record(call.action, f"accounts/acme/policies/p{number}", "acme"))
        call.permitted = True
        with database.transaction(engine) as connection:
            outbox.put(connection, call)
            connection.exec_driver_sql("UPDATE outbox SET created_us = ?", (number,))
    return events


def write(engine: Engine, statement: str, *values: Any) -> None:
    """Behind the service's back."""
    with database.transaction(engine) as connection:
        connection.exec_driver_sql(statement, values)


def forged(**fields: str) -> tuple[str, bytes]:
    made = Event(id=identifiers.event_id(), account="acme", action="crypto:Decrypt", **fields)  # type: ignore[arg-type]
    return made.id, made.SerializeToString()


INSERT = "INSERT INTO outbox (event_id, event, created_us, seal) VALUES (?, ?, 0, ?)"


@pytest.mark.parametrize("seal", [None, b"", b"\x01" + bytes(32), "x", 1 << 40, 1.5])
def test_an_event_that_somebody_else_wrote_is_not_sent_and_blocks_nothing(
    engine: Engine, outbox: Outbox, audit_log: AuditLog, seal: object
) -> None:
    ours = left_behind(engine, outbox, 3)
    with database.transaction(engine) as connection:
        for _ in range(300):
            connection.exec_driver_sql(INSERT, (*forged(principal="accounts/acme/users/mallory"), seal))
    outbox.sweep()
    assert [event.id for event in audit_log.sent()] == [event.id for event in ours]
    # Told, a batch at a time, and nothing of what they say.
    assert sum(int(event.attributes["event_count"]) for event in audit_log.told()) == 300
    assert len(audit_log.told()) <= 3
    assert {(event.principal, event.account, event.reason) for event in audit_log.told()} == {
        ("services/keystore", "", "EVENT_REFUSED")
    }
    assert not any("mallory" in str(event) for event in audit_log.events)
    outbox.sweep()
    assert outbox.refused == 300
    with pytest.raises(StrongroomError) as degraded:
        outbox.check()
    assert degraded.value.reason is Reason.EVENT_REFUSED


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("event", forged(principal="accounts/acme/users/mallory")[1]),
        ("event", b""),
        ("event", "text"),
        ("event", 1 << 40),
        ("event_id", "01a223a4-d16d-705a-93ff-5713c18536bf"),
        ("event_id", ""),
        ("event_id", b"\xff\x00"),
        ("event_id", "x" * 100_000),
        ("seal", None),
    ],
)
def test_an_event_on_its_way_is_not_rewritten(
    engine: Engine, outbox: Outbox, audit_log: AuditLog, column: str, value: object
) -> None:
    first, second = left_behind(engine, outbox, 2)
    write(engine, f"UPDATE outbox SET {column} = ? WHERE event_id = ?", value, first.id)  # noqa: S608
    outbox.sweep()
    assert [event.id for event in audit_log.sent()] == [second.id]
    (told,) = audit_log.told()
    assert told.attributes["refused_reason"] == FOREIGN
    assert told.ByteSize() < 1_000
    # By its id, as that of any other event that was set aside; what is none is told in quotes.
    stored = value if column == "event_id" else first.id
    is_one = isinstance(stored, str) and identifiers.is_uuid(stored)
    assert told.attributes["event_id"] == (stored if is_one else ascii(stored)[:40])
    outbox.sweep()
    assert outbox.refused == 1


def test_an_event_of_another_row_is_not_sent_in_its_place(engine: Engine, outbox: Outbox, audit_log: AuditLog) -> None:
    first, second = left_behind(engine, outbox, 2)
    for column in ("event", "seal"):
        write(
            engine,
            f"UPDATE outbox SET {column} = (SELECT {column} FROM outbox WHERE event_id = ?) WHERE event_id = ?",  # noqa: S608
            second.id,
            first.id,
        )
    outbox.sweep()
    assert [event.id for event in audit_log.sent()] == [second.id]


def test_nothing_is_sent_before_the_key_is_there(engine: Engine, outbox: Outbox, audit_log: AuditLog) -> None:
    left_behind(engine, outbox)
    seals = row_seals.RowSeals(Reason.ACCESS_RECORD_REFUSED)
    waiting = Outbox(row_seals.sealed(engine, seals), audit_log, "services/keystore")
    with pytest.raises(StrongroomError) as refused:
        waiting.sweep()
    assert refused.value.reason is Reason.RECORD_KEY_UNAVAILABLE
    assert audit_log.events == []


def test_times_that_somebody_else_changed_keep_events_back_and_change_nothing_else(
    engine: Engine, outbox: Outbox, audit_log: AuditLog
) -> None:
    (first,) = left_behind(engine, outbox)
    write(engine, "UPDATE outbox SET created_us = ?", time.time_ns())
    outbox.sweep()
    assert [event.id for event in audit_log.sent()] == [first.id]


@pytest.mark.parametrize("column", ["event", "event_id"])
@pytest.mark.parametrize("value", ["text", 1 << 40, 1.5, b"\xff\xff"])
def test_what_is_no_event_blocks_nothing_where_rows_are_not_sealed(
    tmp_path: Path, audit_log: AuditLog, column: str, value: object
) -> None:
    """An outbox without seals is that of audit's own database, whose writers may add events of their own."""
    engine = database.open_database(Database(url=f"sqlite:///{tmp_path}/audit.db"))
    metadata = MetaData()
    outbox_table(metadata)
    with database.transaction(engine) as connection:
        metadata.create_all(connection)
    outbox = Outbox(engine, audit_log, "services/audit")
    first, second = left_behind(engine, outbox, 2)
    write(engine, f"UPDATE outbox SET {column} = ? WHERE event_id = ?", value, first.id)  # noqa: S608
    outbox.sweep()
    assert second.id in [event.id for event in audit_log.sent()]
    engine.dispose()
