"""The outbox: whatever stands in it, what the log can take gets there, and what it cannot keeps nothing waiting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import Engine, MetaData, insert, select, update

from services.runtime import identifiers
from services.runtime.audit_client import AuditClient
from services.runtime.call import Call, Principal
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.event_bounds import MAX_APPEND_BYTES, MAX_EVENT_BYTES
from services.runtime.storage import database
from services.runtime.storage.outbox import Outbox, outbox_table
from strongroom.audit.v1.event_log_service_pb2 import AppendRequest, AppendResponse
from strongroom.audit.v1.event_pb2 import Event, Outcome

_METADATA = MetaData()
_TABLE = outbox_table(_METADATA)
ANN = Principal("accounts/acme/users/ann", "acme")


class AuditLog:
    """Takes what the real one does, but for events that it is told to refuse."""

    def __init__(self) -> None:
        self.events: dict[str, Event] = {}
        self.refused: set[str] = set()
        self.broken = False

    def append(self, request: AppendRequest, *, timeout: float) -> AppendResponse:
        del timeout
        assert request.ByteSize() <= MAX_APPEND_BYTES
        assert all(event.ByteSize() <= MAX_EVENT_BYTES for event in request.events)
        if request.events and (self.broken or self.refused.intersection(event.id for event in request.events)):
            raise StrongroomError(Reason.INTERNAL if self.broken else Reason.FIELD_INVALID, "no")
        self.events |= {event.id: event for event in request.events}
        return AppendResponse()


@pytest.fixture
def audit_log() -> AuditLog:
    return AuditLog()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = database.open_database(Database(url=f"sqlite:///{tmp_path}/own.db"))
    with database.transaction(engine) as connection:
        _METADATA.create_all(connection)
    yield engine
    engine.dispose()


@pytest.fixture
def outbox(engine: Engine, audit_log: AuditLog) -> Iterator[Outbox]:
    audit = AuditClient(lambda: audit_log.append, senders=1, deadline_seconds=20.0)
    yield Outbox(engine, audit, "services/keystore")
    audit.stop()


def left(engine: Engine) -> dict[str, str | None]:
    with database.reading(engine) as connection:
        return {row.event_id: row.refused_reason for row in connection.execute(select(_TABLE))}


def leave(engine: Engine, *rows: tuple[str, bytes]) -> None:
    """Rows that a process left behind long ago."""
    with database.transaction(engine) as connection:
        for number, (event_id, data) in enumerate(rows):
            connection.execute(insert(_TABLE).values(event_id=event_id, event=data, created_us=number))


def event(**fields: str) -> tuple[str, bytes]:
    made = Event(id=identifiers.event_id(), account="acme", action="keystore:CreatePolicy", **fields)  # type: ignore[arg-type]
    return made.id, made.SerializeToString()


def test_rows_that_are_too_large_for_one_append_all_reach_the_log(
    engine: Engine, outbox: Outbox, audit_log: AuditLog
) -> None:
    poison = [event(decided_by=", ".join(f"accounts/acme/policies/p{n}" for n in range(4_500))) for _ in range(181)]
    assert sum(len(data) for _, data in poison) > 16 << 20
    plain = [event() for _ in range(300)]
    leave(engine, *poison, *plain)
    outbox.sweep()
    assert set(audit_log.events) == {event_id for event_id, _ in (*poison, *plain)}
    assert left(engine) == {}


def test_an_event_that_the_log_refuses_is_set_aside_told_of_and_blocks_nothing(
    engine: Engine, outbox: Outbox, audit_log: AuditLog
) -> None:
    rows = [event() for _ in range(9)]
    bad, garbled = rows[0][0], identifiers.event_id()
    audit_log.refused = {bad}
    leave(engine, *rows, (garbled, b"\xff\xff no event"))
    outbox.sweep()
    assert left(engine) == {bad: "FIELD_INVALID", garbled: "UNDECODABLE"}
    told = {one.attributes["event_id"]: one for one in audit_log.events.values() if one.action == "audit:SetEventAside"}
    assert set(told) == {bad, garbled}
    assert (told[bad].principal, told[bad].reason) == ("services/keystore", "EVENT_REFUSED")
    assert set(audit_log.events) - {one.id for one in told.values()} == {event_id for event_id, _ in rows[1:]}

    outbox.sweep()
    assert len(audit_log.events) == 10
    with pytest.raises(StrongroomError) as degraded:
        outbox.check()
    assert degraded.value.reason is Reason.EVENT_REFUSED


def test_a_log_that_refuses_everything_has_nothing_set_aside(
    engine: Engine, outbox: Outbox, audit_log: AuditLog
) -> None:
    rows = [event() for _ in range(3)]
    leave(engine, *rows)
    audit_log.broken = True
    with pytest.raises(StrongroomError):
        outbox.sweep()
    audit_log.broken = False
    outbox.sweep()
    assert left(engine) == {}
    assert set(audit_log.events) == {event_id for event_id, _ in rows}


def test_a_change_of_many_with_long_reasons_is_stored_small(engine: Engine, outbox: Outbox) -> None:
    call = Call("strongroom.access.v1.PolicyService", "CreatePolicy", "access:CreatePolicy", principal=ANN)
    for number in range(181):
        recorded = call.record(call.action, f"accounts/acme/users/u{number}", "acme")
        recorded.decided_by = ", ".join(f"accounts/acme/policies/p{n}" for n in range(4_500))
    with database.transaction(engine) as connection:
        outbox.put(connection, call)
        connection.execute(update(_TABLE).values(created_us=0))
    outbox.sweep()
    assert left(engine) == {}


class ChangeError(Exception):
    """Ends a transaction."""


def changed(engine: Engine, outbox: Outbox, call: Call, error: Exception | None = None) -> None:
    with suppress(ChangeError), database.transaction(engine) as connection:
        outbox.put(connection, call)
        if error is not None:
            raise error


def test_a_change_that_did_not_commit_is_not_told_as_allowed(engine: Engine, outbox: Outbox) -> None:
    call = Call("strongroom.access.v1.PolicyService", "CreatePolicy", "access:CreatePolicy", principal=ANN)
    refused = call.record("crypto:Decrypt", "accounts/acme/keys/k", "acme")
    refused.outcome, refused.reason = Outcome.OUTCOME_DENIED, "PERMISSION_DENIED"
    recorded = call.record(call.action, "accounts/acme/policies/p", "acme")
    stored, refused_id = recorded.id, refused.id
    changed(engine, outbox, call, ChangeError())
    assert (left(engine), call.outbox) == ({}, None)
    call.conclude(Outcome.OUTCOME_FAILED, "DATABASE_UNAVAILABLE")
    assert (recorded.outcome, recorded.reason) == (Outcome.OUTCOME_FAILED, "DATABASE_UNAVAILABLE")
    # Had the COMMIT happened without an answer, the outbox would tell of it, and no repeat would be taken for this.
    assert recorded.id != stored
    assert (refused.id, refused.outcome) == (refused_id, Outcome.OUTCOME_DENIED)


def test_a_change_that_commits_at_the_second_attempt_is_told_once(
    engine: Engine, outbox: Outbox, audit_log: AuditLog
) -> None:
    call = Call("strongroom.access.v1.PolicyService", "CreatePolicy", "access:CreatePolicy", principal=ANN)
    changed(engine, outbox, call, ChangeError())
    changed(engine, outbox, call)
    assert call.outbox is outbox
    call.conclude(Outcome.OUTCOME_FAILED, "INTERNAL")
    (told,) = call.events
    assert told.outcome == Outcome.OUTCOME_ALLOWED
    assert list(left(engine)) == [told.id]
    with database.transaction(engine) as connection:
        connection.execute(update(_TABLE).values(created_us=0))
    outbox.sweep()
    assert list(audit_log.events) == [told.id]
