"""Old events in the archive: out of the lookups' way, found when asked for, and the log verifies as before."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import Engine, text

from services.audit.keys.sealing import DAY_US
from services.audit.logs.logs import OpenLog
from services.audit.reading.events import Period, Query
from services.audit.reading.usage import DEFAULT_DIMENSIONS, counted
from services.audit.retention.retention import POLICY_PATHS
from services.audit.retention.store import RetentionPolicy
from strongroom.audit.v1.event_pb2 import Event
from strongroom.tlog import merkle
from strongroom.tlog.tiles import TilePath, entries_of
from tests.support.audit_logs import OwnRoot, append_indexed, event, opened, own_call, use_small_nodes
from tests.support.clocks import StillClock

COUNT = 1300
LATE = 701


@dataclass
class Aged:
    """A log whose events are of 500 days ago, but for a last one."""

    log: OpenLog
    events: list[Event]
    root: bytes
    clock: StillClock


@pytest.fixture
def aged(engine: Engine, crypto: OwnRoot, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aged]:
    # What is archived has to be in a stored node.
    use_small_nodes(monkeypatch)
    clock = StillClock(time.time_ns() // 1000)
    old = StillClock(clock.us - 500 * DAY_US)
    log = opened(engine, crypto, clock=clock)
    events = [
        event(
            account="acme" if number % 5 else "other",
            at=(old.us + number * 1_000 - (3_000_000 if number == LATE else 0)) * 1_000,
            made_by=old,
            resource=f"key-{number % 3}",
        )
        for number in range(COUNT)
    ]
    append_indexed(log, events, 100)
    yield Aged(log, events, log.log.tree.root(), clock)
    log.stop()


def of(aged: Aged, query: Query, *, archive: bool, newest_first: bool = False) -> list[Event]:
    found: list[Event] = []
    position = None
    while True:
        page, position = aged.log.events.page(
            query, Period(), position, 300, newest_first=newest_first, archive=archive
        )
        found += page
        if position is None:
            return found


def test_what_is_archived_is_found_when_asked_for_and_verifies(aged: Aged, engine: Engine) -> None:
    query = Query("acme", resource="key-1")
    before = {order: of(aged, query, archive=False, newest_first=order) for order in (True, False)}
    report = counted(aged.log.events, Query("acme"), Period(), DEFAULT_DIMENSIONS)
    moved = aged.log.retention.archive_due()
    # Two full nodes of two bundles; the last bundles stay.
    assert moved == 4
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT count(*) FROM leaves")).scalar_one()
    assert rows == COUNT - 4 * 256 + 1
    assert aged.log.retention.archive_due() == 0

    assert len(of(aged, query, archive=False)) < len(before[False])
    for order in (True, False):
        assert of(aged, query, archive=True, newest_first=order) == before[order]
    assert counted(aged.log.events, Query("acme"), Period(), DEFAULT_DIMENSIONS) == report
    for number in (0, LATE, 1023, 1024):
        one = aged.events[number]
        assert aged.log.events.get(one.account, one.id) == one

    assert aged.log.source.proofs(COUNT).root() == aged.root
    bundle = aged.log.source.read(TilePath(None, 2))
    assert merkle.leaf_hashes(entries_of(bundle, 256)) == [
        aged.log.source.tile(0, 2, 256)[start : start + 32] for start in range(0, 8192, 32)
    ]
    assert len(aged.log.source.entries(3, 17)) == 17


def test_an_archived_event_is_proved(aged: Aged) -> None:
    aged.log.retention.archive_due()
    one = aged.events[1001]
    found = aged.log.transparency.inclusion(one.account, one.id, 0)
    key = aged.log.signing_keys.signers()[0].verifier_key
    assert found.proof.index == 1001
    assert found.proof.verify(found.leaf, [key]).size == COUNT


def test_a_longer_period_of_one_account_keeps_the_bundles_that_it_is_in(aged: Aged) -> None:
    aged.log.retention.update_policy(own_call(), RetentionPolicy("other", 600, 0), POLICY_PATHS, "")
    assert aged.log.retention.archive_due() == 0
    aged.log.retention.update_policy(own_call(), RetentionPolicy("other", 30, 0), POLICY_PATHS, "")
    assert aged.log.retention.archive_due() == 4


def test_archived_events_are_made_unreadable_with_the_others(aged: Aged) -> None:
    aged.log.retention.archive_due()
    assert aged.log.retention.shred(own_call(), "acme", None).event_count == COUNT * 4 // 5
    assert of(aged, Query("acme"), archive=True) == []
    assert len(of(aged, Query("other"), archive=True)) == COUNT // 5


def test_a_restart_finds_the_log_as_it_was(aged: Aged, engine: Engine, crypto: OwnRoot) -> None:
    aged.log.retention.archive_due()
    aged.log.stop()
    again = opened(engine, crypto, clock=aged.clock)
    assert again.log.tree.root() == aged.root
    assert again.log.append([event()]) == [COUNT]
    found = Aged(again, aged.events, aged.root, aged.clock)
    in_order = sorted(aged.events, key=lambda one: (one.time.seconds, one.time.nanos))
    assert of(found, Query("other"), archive=True) == [one for one in in_order if one.account == "other"]
    again.stop()
