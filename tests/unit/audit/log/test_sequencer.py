"""The log: places without gaps, repeats found, nothing half written, leaves that only their account's key opens."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy import event as engine_events

from services.audit.logs.logs import OpenLog
from services.audit.reading.events import Period, Query
from services.audit.storage.store import LogStore
from services.runtime import event_bounds
from services.runtime.errors import Reason, StrongroomError
from tests.support.audit_logs import OwnRoot, event, is_writable, opened
from tests.support.clients import until
from tests.support.clocks import StillClock

ACME = Query("acme")


@pytest.fixture
def log(open_log: OpenLog) -> OpenLog:
    return open_log


def test_events_get_consecutive_places(log: OpenLog) -> None:
    assert log.log.append([event(), event()]) == [0, 1]
    assert log.log.append([event("other")]) == [2]
    assert log.log.size == 3


@pytest.mark.parametrize("resent", [True, False], ids=["marked", "unmarked"])
def test_a_repeated_event_keeps_its_place_and_is_stored_once(log: OpenLog, resent: bool) -> None:
    first, second, third = event(), event(), event()
    log.log.append([first, second])
    assert log.log.append([second, third], resent=resent) == [1, 2]
    assert log.log.size == 3


def test_an_event_twice_in_one_append_is_one_event(log: OpenLog) -> None:
    twice = event()
    assert log.log.append([twice, twice, event()]) == [0, 0, 1]


def test_a_new_process_goes_on_where_the_last_one_ended(log: OpenLog, open_again: Callable[[], OpenLog]) -> None:
    log.log.append([event(), event()])
    again = open_again()
    assert again.log.append([event()]) == [2]
    assert again.log.tree.size == 3


def test_concurrent_appends_leave_no_gap_and_no_double(log: OpenLog) -> None:
    places: list[int] = []

    def append_many() -> None:
        for _ in range(50):
            places.extend(log.log.append([event(), event("other")]))

    threads = [threading.Thread(target=append_many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(places) == list(range(800))


def test_the_database_holds_no_readable_event(log: OpenLog, tmp_path: Path) -> None:
    log.log.append([event(principal="accounts/acme/users/very-secret-name")])
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"very-secret-name" not in held


def test_events_are_read_back_in_order_of_time_page_by_page(log: OpenLog) -> None:
    recorded = [event(at=(10 + n // 2) * 1_000_000_000) for n in range(7)]
    log.log.append(recorded)
    log.log.append([event("other")])
    events = log.events
    for newest_first in (False, True):
        read, position = [], None
        while True:
            page, position = events.page(ACME, Period(), position, 3, newest_first=newest_first)
            read += page
            if position is None:
                break
        assert read == (recorded[::-1] if newest_first else recorded)
    between, _ = events.page(ACME, Period(11_000_000, 12_000_000), None, 10, newest_first=False)
    assert between == recorded[2:4]


def test_an_event_is_found_by_its_id_in_its_account_alone(log: OpenLog) -> None:
    recorded = event()
    log.log.append([recorded])
    events = log.events
    assert events.get("acme", recorded.id) == recorded
    with pytest.raises(StrongroomError) as refused:
        events.get("other", recorded.id)
    assert refused.value.reason is Reason.EVENT_NOT_FOUND


def test_a_restarted_service_reads_what_its_predecessor_sealed(log: OpenLog, open_again: Callable[[], OpenLog]) -> None:
    recorded = event()
    log.log.append([recorded])
    assert open_again().events.get("acme", recorded.id) == recorded


def test_without_crypto_at_start_the_log_refuses_and_says_why(
    open_again: Callable[[], OpenLog], crypto: OwnRoot
) -> None:
    crypto.away = True
    log = open_again()
    for refused_call in (log.log.check, lambda: log.log.append([event()])):
        with pytest.raises(StrongroomError) as refused:
            refused_call()
        assert refused.value.reason is Reason.AUDIT_SEALING_KEY_UNAVAILABLE
    crypto.away = False
    until(lambda: is_writable(log))
    assert log.log.append([event()]) == [0]


def test_a_full_disk_refuses_whole_groups_and_loses_nothing(engine: Engine, open_again: Callable[[], OpenLog]) -> None:
    allowed = [1 << 30]

    def limit(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count={allowed[0]}")

    engine.dispose()
    engine_events.listen(engine, "connect", limit)
    log = open_again()
    log.log.append([event()])
    with engine.connect() as connection:
        allowed[0] = connection.execute(text("PRAGMA page_count")).scalar_one() + 2
    log.log.close()
    engine.dispose()
    appended = log.log.size

    def fill() -> None:
        nonlocal appended
        for _ in range(1000):
            appended = log.log.append([event() for _ in range(20)])[-1] + 1

    with pytest.raises(StrongroomError) as refused:
        fill()
    assert refused.value.reason is Reason.AUDIT_STORAGE_FULL
    assert LogStore(engine).head().size == appended == log.log.size
    allowed[0] = 1 << 30
    log.log.close()
    engine.dispose()
    assert log.log.append([event()]) == [appended]


def test_an_event_that_no_leaf_can_hold_is_shortened(log: OpenLog) -> None:
    policies = ", ".join(f"accounts/acme/policies/policy-{number}" for number in range(3_000))
    long = {"a": "x" * 70_000}
    large = event(decided_by=policies, encryption_context=long)
    assert log.log.append([event(), large, event()]) == [0, 1, 2]
    kept = log.events.get("acme", large.id)
    assert kept.decided_by == event_bounds.decided_by(policies)
    assert kept.attributes["encryption_context_sha256"] == event_bounds.context_digest(long).hex()


def test_a_clock_that_is_set_back_stops_no_writer_from_beating(engine: Engine) -> None:
    clock = StillClock(time.time_ns() // 1000)
    log = opened(engine, OwnRoot(), clock=clock)
    log.log.append([event()])
    clock.us -= 3_600_000_000
    beat = LogStore(engine).beat_of_writer()
    # On its own, while nothing is appended.
    until(lambda: LogStore(engine).beat_of_writer() != beat)
    log.stop()
