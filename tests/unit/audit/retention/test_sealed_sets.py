"""What decides how long events can be read, in the hands of somebody else who writes to audit's database: nothing is
destroyed by it, and what was changed is refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, text, update

from services.audit.keys.sealing import DAY_US
from services.audit.logs.logs import Logs, OpenLog
from services.audit.reading.events import Period, Query
from services.audit.retention.retention import HOLD_PATHS, POLICY_PATHS
from services.audit.retention.store import LegalHold, RetentionPolicy
from services.audit.storage.tables import legal_holds, retention_policies, sealed_sets
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage import database
from tests.support.audit_logs import OwnRoot, event, is_writable, opened, own_call
from tests.support.clients import until
from tests.support.clocks import StillClock

HOLD = LegalHold("acme", True, "case 7", "accounts/acme/users/ann")
TABLES = (legal_holds, retention_policies, sealed_sets)
OTHER_VALUES = {"active": 0, "account": "bold", "name": "x", "digest": bytes(32), "seal": b"\x01" + bytes(32)}
ROWS = [
    "DELETE FROM legal_holds",
    "DELETE FROM retention_policies",
    "DELETE FROM sealed_sets",
    "DELETE FROM sealed_sets WHERE name = 'legal_holds'; DELETE FROM legal_holds",
    "INSERT INTO retention_policies VALUES ('cold', 1, 1, 0, 9, NULL)",
    "INSERT INTO legal_holds SELECT 'cold', 0, reason, changed_by, updated_us, revision, seal FROM legal_holds",
    "DELETE FROM service_keys WHERE purpose = 'audit record key'",
    "DELETE FROM legal_holds; DELETE FROM sealed_sets; DELETE FROM service_keys WHERE purpose = 'audit record key'",
    "UPDATE service_keys SET purpose = 'another' WHERE purpose = 'audit record key'",
]


def changed(engine: Engine, statements: str) -> None:
    with database.transaction(engine) as connection:
        for statement in statements.split("; "):
            connection.execute(text(statement))


def reason_of(work: Callable[[], object]) -> Reason | None:
    try:
        work()
    except StrongroomError as error:
        return error.reason
    return None


@pytest.fixture
def clock() -> StillClock:
    return StillClock(time.time_ns() // 1000)


@pytest.fixture
def again(engine: Engine, crypto: OwnRoot, clock: StillClock) -> Any:
    """Opens the log as a process that starts does, as long after events of acme, bold and cold as the clock says, where
    acme's are held and bold's to be shredded."""
    running: list[OpenLog] = []

    def open_one() -> OpenLog:
        running.append(opened(engine, crypto, clock=clock))
        return running[-1]

    first = open_one()
    first.log.append([event(account) for account in ("acme", "bold", "cold")])
    first.retention.update_policy(own_call(), RetentionPolicy("acme", 30, 40), POLICY_PATHS, "0")
    first.retention.update_hold(own_call(), HOLD, HOLD_PATHS, "0")
    yield open_one
    for log in running:
        log.stop()


def readable(log: OpenLog) -> int:
    return sum(
        len(log.events.page(Query(one, action="crypto:Encrypt"), Period(), None, 9, newest_first=True)[0])
        for one in ("acme", "cold")
    )


def require_refused(log: OpenLog) -> None:
    reasons = {
        reason_of(log.retention.shred_due),
        reason_of(lambda: log.retention.shred(own_call(), "acme", None)),
        reason_of(lambda: log.retention.update_hold(own_call(), LegalHold("acme"), HOLD_PATHS, "another")),
        reason_of(lambda: log.retention.hold("acme")),
        reason_of(lambda: log.retention.policy("acme")),
    }
    assert Reason.AUDIT_RECORD_REFUSED in reasons
    assert reasons <= {Reason.AUDIT_RECORD_REFUSED, Reason.LEGAL_HOLD, Reason.ETAG_MISMATCH, None}
    assert reason_of(Logs([log]).check_keys) is Reason.AUDIT_RECORD_REFUSED
    assert readable(log) == 2


def test_no_column_can_be_changed_and_counted_by(
    again: Callable[[], OpenLog], engine: Engine, clock: StillClock
) -> None:
    log = again()
    clock.us += 50 * DAY_US
    for column in [column for table in TABLES for column in table.c]:
        table = column.table
        with database.reading(engine) as connection:
            before = [dict(row) for row in connection.execute(table.select()).mappings()]
        with database.transaction(engine) as connection:
            (key,) = table.primary_key
            one = key == before[0][key.name]
            connection.execute(update(table).where(one).values({column: OTHER_VALUES.get(column.name, 7)}))
        require_refused(log)
        with database.transaction(engine) as connection:
            connection.execute(table.delete())
            connection.execute(table.insert(), before)
        assert log.retention.hold("acme").active
        assert Logs([log]).check_keys() is None  # type: ignore[func-returns-value]  # that it does not raise


@pytest.mark.parametrize("statements", ROWS)
def test_nothing_is_shredded_by_what_somebody_else_wrote_and_it_is_told(
    again: Callable[[], OpenLog], engine: Engine, clock: StillClock, statements: str
) -> None:
    changed(engine, statements)
    log = again()
    clock.us += 50 * DAY_US
    require_refused(log)
    # The log goes on.
    log.log.append([event("cold")])
    assert readable(log) == 3


def test_rows_of_before_a_hold_put_back_are_refused_by_a_process_that_saw_it(
    again: Callable[[], OpenLog], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = again()
    tables = (legal_holds, sealed_sets)
    log.retention.update_hold(own_call(), LegalHold("acme"), HOLD_PATHS, "")
    with database.reading(engine) as connection:
        kept = {table: connection.execute(table.select()).mappings().all() for table in tables}
    log.retention.update_hold(own_call(), HOLD, HOLD_PATHS, "")
    assert reason_of(lambda: log.retention.shred(own_call(), "acme", None)) is Reason.LEGAL_HOLD
    with database.transaction(engine) as connection:
        for table, rows in kept.items():
            connection.execute(table.delete())
            connection.execute(table.insert(), [dict(row) for row in rows])
    monkeypatch.setattr("services.runtime.storage.row_seals._SETTLED_SECONDS", -1.0)
    assert reason_of(lambda: log.retention.shred(own_call(), "acme", None)) is Reason.AUDIT_RECORD_REFUSED


def test_the_index_s_key_is_made_once_and_nothing_is_looked_up_while_it_is_missing(
    again: Callable[[], OpenLog], engine: Engine
) -> None:
    again()
    with database.reading(engine) as connection:
        row = connection.execute(text("SELECT * FROM service_keys WHERE purpose = 'audit index key'")).mappings().one()
    changed(engine, "DELETE FROM service_keys WHERE purpose = 'audit index key'")
    log = again()
    assert reason_of(lambda: readable(log)) is Reason.AUDIT_RECORD_REFUSED
    assert reason_of(Logs([log]).check_keys) is Reason.AUDIT_RECORD_REFUSED
    assert is_writable(log)
    log.log.append([event("cold")])
    assert reason_of(lambda: readable(log)) is Reason.AUDIT_RECORD_REFUSED
    with database.transaction(engine) as connection:
        connection.execute(
            text("INSERT INTO service_keys VALUES (:key_id, :purpose, :created_us, :wrapped, :root_version)"), dict(row)
        )
    # Found as before, and what came meanwhile besides.
    log.tokens.renew()
    assert readable(log) == 3
    assert readable(again()) == 3


def test_a_new_log_is_ready_though_crypto_came_late(engine: Engine, crypto: OwnRoot) -> None:
    crypto.away = True
    log = opened(engine, crypto)
    assert not is_writable(log)
    assert reason_of(lambda: log.retention.hold("acme")) is Reason.RECORD_KEY_UNAVAILABLE
    crypto.away = False
    until(lambda: is_writable(log))
    assert not log.retention.hold("acme").active
    log.stop()
