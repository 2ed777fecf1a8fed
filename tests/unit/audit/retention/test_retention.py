"""Events that are made unreadable, what holds them, and a log that verifies all the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from services.audit.keys.sealing import DAY_US
from services.audit.keys.service_keys import Renewal
from services.audit.logs.logs import OpenLog
from services.audit.reading.events import Period, Query
from services.audit.retention.retention import HOLD_PATHS, POLICY_PATHS
from services.audit.retention.store import LegalHold, RetentionPolicy
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError
from strongroom.tlog import merkle
from tests.support.audit_logs import OwnRoot, event, events_of, opened, own_call
from tests.support.clocks import StillClock

HOLD = LegalHold("acme", True, "case 7", "accounts/acme/users/ann")


def reason_of(work: Callable[[], object]) -> Reason:
    with pytest.raises(StrongroomError) as refused:
        work()
    return refused.value.reason


def readable(log: OpenLog, account: str) -> int:
    page, _ = log.events.page(Query(account), Period(), None, 1000, newest_first=True)
    return len(page)


def test_an_account_s_events_become_unreadable_and_the_log_still_verifies(
    open_log: OpenLog, open_again: Callable[[], OpenLog], engine: Engine, tmp_path: Path
) -> None:
    theirs = [event() for _ in range(300)]
    open_log.log.append([*theirs, *(event("other") for _ in range(50))])
    root = open_log.log.tree.root()
    with engine.connect() as connection:
        wrapped = connection.execute(text("SELECT wrapped FROM sealing_keys WHERE account = 'acme'")).scalar_one()

    assert open_log.retention.shred(own_call(), "acme", None, validate_only=True).event_count == 300
    assert readable(open_log, "acme") == 300
    done = open_log.retention.shred(own_call(), "acme", None)
    assert (done.event_count, done.key_count) == (300, 1)
    assert open_log.retention.shred(own_call(), "acme", None).event_count == 0

    again = open_again()
    for log in (open_log, again):
        assert readable(log, "acme") == 0
        assert readable(log, "other") == 50
        assert reason_of(partial(log.events.get, "acme", theirs[0].id)) is Reason.EVENT_SHREDDED
        assert reason_of(partial(log.events.get, "other", theirs[0].id)) is Reason.EVENT_NOT_FOUND
        assert log.source.proofs(350).root() == root
    proof = open_log.transparency.inclusion("acme", theirs[0].id, 0)
    assert proof.proof.verify(proof.leaf, [open_log.signing_keys.signers()[0].verifier_key]).size >= 350
    assert merkle.leaf_hash(proof.leaf) == open_log.source.proofs(350).leaf_hash(0)
    # What opened them is in no file any more.
    assert not any(wrapped in path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    # New events are sealed under a new key.
    again.log.append([event()])
    assert readable(again, "acme") == 1


def test_only_days_that_ended_before_a_time(engine: Engine) -> None:
    clock = StillClock(time.time_ns() // 1000 // DAY_US * DAY_US + DAY_US // 2)
    log = opened(engine, OwnRoot(), clock=clock)
    for _ in range(3):
        log.log.append([event(), event()])
        clock.us += DAY_US
    today_us = clock.us // DAY_US * DAY_US
    assert log.retention.shred(own_call(), "acme", today_us - 2 * DAY_US + DAY_US // 2).event_count == 2
    assert readable(log, "acme") == 4
    assert log.retention.shred(own_call(), "acme", today_us).event_count == 4
    log.stop()


def test_while_a_legal_hold_is_active_nothing_is_destroyed(open_log: OpenLog) -> None:
    open_log.log.append([event()])
    assert not open_log.retention.hold("acme").active
    assert reason_of(lambda: open_log.retention.update_hold(own_call(), LegalHold("acme", True), HOLD_PATHS, "")) is (
        Reason.FIELD_REQUIRED
    )
    held = open_log.retention.update_hold(own_call(), HOLD, HOLD_PATHS, "0")
    assert (held.active, held.reason, held.changed_by) == (True, "case 7", HOLD.changed_by)
    assert reason_of(lambda: open_log.retention.shred(own_call(), "acme", None)) is Reason.LEGAL_HOLD
    assert reason_of(lambda: open_log.retention.update_hold(own_call(), HOLD, HOLD_PATHS, "0")) is Reason.ETAG_MISMATCH
    assert readable(open_log, "acme") == 1

    lifted = open_log.retention.update_hold(own_call(), LegalHold("acme", False, ""), ("active",), "1")
    assert (lifted.active, lifted.reason) == (False, "case 7")
    assert open_log.retention.shred(own_call(), "acme", None).event_count == 1


def test_a_policy_makes_events_unreadable_when_their_time_has_come(engine: Engine) -> None:
    clock = StillClock(time.time_ns() // 1000)
    log = opened(engine, OwnRoot(), clock=clock)
    log.log.append([event(), event("other")])
    assert log.retention.policy("acme").archive_after_days == 400
    policy = log.retention.update_policy(own_call(), RetentionPolicy("acme", 30, 40), POLICY_PATHS, "0")
    assert (policy.archive_after_days, policy.shred_after_days, policy.revision) == (30, 40, 1)

    assert log.retention.shred_due() == []
    clock.us += 42 * DAY_US
    log.retention.update_hold(own_call(), HOLD, HOLD_PATHS, "")
    assert log.retention.shred_due() == []
    log.retention.update_hold(own_call(), LegalHold("acme"), HOLD_PATHS, "")
    assert log.retention.shred_due() == ["acme"]
    assert (readable(log, "acme"), readable(log, "other")) == (0, 1)
    clock.us += DAY_US
    log.changes.outbox.sweep()
    told = events_of(log, "acme")[-1]
    assert (told.action, told.principal) == ("audit:ShredAccountEvents", "services/audit")
    assert told.attributes["event_count"] == "1"
    assert log.retention.shred_due() == []
    log.stop()


@pytest.mark.parametrize(("archive", "shred"), [(29, 0), (3661, 0), (30, 30), (400, 100)])
def test_policies_that_cannot_be(open_log: OpenLog, archive: int, shred: int) -> None:
    wanted = RetentionPolicy("acme", archive, shred)
    assert (
        reason_of(lambda: open_log.retention.update_policy(own_call(), wanted, POLICY_PATHS, ""))
        is Reason.FIELD_INVALID
    )


def test_a_hold_forbids_that_events_become_unreadable_earlier(open_log: OpenLog) -> None:
    open_log.retention.update_policy(own_call(), RetentionPolicy("acme", 30, 100), POLICY_PATHS, "")
    open_log.retention.update_hold(own_call(), HOLD, HOLD_PATHS, "")
    sooner, later = RetentionPolicy("acme", 30, 99), RetentionPolicy("acme", 30, 0)
    assert (
        reason_of(lambda: open_log.retention.update_policy(own_call(), sooner, POLICY_PATHS, "")) is Reason.LEGAL_HOLD
    )
    assert open_log.retention.update_policy(own_call(), later, POLICY_PATHS, "").shred_after_days == 0


def test_an_account_whose_events_cannot_be_shredded_holds_up_no_other(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = StillClock(time.time_ns() // 1000)
    log = opened(engine, OwnRoot(), clock=clock)
    accounts = ("acme", "bold", "cold")
    log.log.append([event(account) for account in accounts])
    for account in accounts:
        log.retention.update_policy(own_call(), RetentionPolicy(account, 30, 40), POLICY_PATHS, "0")
    clock.us += 42 * DAY_US
    shred = log.retention.shred

    def failing(call: Call, account: str, end_us: int) -> object:
        if account == "bold":
            raise StrongroomError(Reason.AUDIT_RECORD_REFUSED, "its sealing key is not what the service wrote")
        return shred(call, account, end_us)

    monkeypatch.setattr(log.retention, "shred", failing)
    assert log.retention.shred_due() == ["acme", "cold"]
    assert [readable(log, account) for account in accounts] == [0, 1, 0]
    monkeypatch.undo()
    assert log.retention.shred_due() == ["bold"]
    log.stop()


def test_one_key_that_cannot_be_renewed_holds_up_no_other_whatever_it_raises() -> None:
    done, failed = threading.Event(), threading.Event()

    def fail() -> None:
        if failed.is_set():
            done.set()
        failed.set()
        raise ValueError("no error of ours")

    renewed = threading.Event()
    renewal = Renewal([fail, renewed.set])
    renewal.start()
    assert renewed.wait(10)
    assert done.wait(10)
    renewal.stop()
