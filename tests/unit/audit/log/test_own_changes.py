"""What audit itself changes stands with its event, whatever ends between the two, or is not done."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine

from services.audit.keys.sealing import DAY_US
from services.audit.logs.logs import Logs, OpenLog
from services.audit.publication.witnesses import WitnessSettings
from services.audit.retention.retention import HOLD_PATHS, POLICY_PATHS
from services.audit.retention.store import LegalHold, RetentionPolicy
from services.audit.storage.store import LogStore
from services.runtime.call import Call
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.rpc.audited import Made
from services.runtime.storage import database
from services.runtime.telemetry import TraceContext
from strongroom.audit.v1 import audit_service_pb2
from strongroom.audit.v1.event_pb2 import Outcome
from strongroom.tlog import checkpoints, notes
from strongroom.tlog.notes import VerifierKey
from tests.support import databases
from tests.support.audit_logs import OwnRoot, event, events_of, opened, own_call
from tests.support.clients import until
from tests.support.clocks import StillClock

WITNESS = "witness.test"
WITNESS_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
READING = ("Get", "List", "Lookup", "Stream", "Report")


def cosign(log: OpenLog, call: Call) -> None:
    until(lambda: log.publisher.signed is not None)
    text = notes.parse(log.transparency.checkpoint(include_unpublished=True).note).text
    size = log.transparency.checkpoint(include_unpublished=True).tree_size
    log.witnesses.add(call, size, [str(checkpoints.cosign(WITNESS, WITNESS_KEY, text, int(time.time())))])


FIRST = event()
# How each method changes something, and how that is seen.
CHANGES: dict[str, Callable[[OpenLog, Call], object]] = {
    "ShredAccountEvents": lambda log, call: log.retention.shred(call, "acme", None),
    "UpdateLegalHold": lambda log, call: log.retention.update_hold(call, LegalHold("acme", True, "c"), HOLD_PATHS, ""),
    "UpdateRetentionPolicy": lambda log, call: log.retention.update_policy(
        call, RetentionPolicy("acme", 30, 40), POLICY_PATHS, ""
    ),
    "AddCosignatures": cosign,
}
HAS_CHANGED: dict[str, Callable[[OpenLog], bool]] = {
    "ShredAccountEvents": lambda log: reason_of(partial(log.events.get, "acme", FIRST.id)) is Reason.EVENT_SHREDDED,
    "UpdateLegalHold": lambda log: log.retention.hold("acme").active,
    "UpdateRetentionPolicy": lambda log: log.retention.policy("acme").revision == 1,
    "AddCosignatures": lambda log: log.publisher.published is not None,
}


def reason_of(work: Callable[[], object]) -> Reason | None:
    try:
        work()
    except StrongroomError as error:
        return error.reason
    return None


def opened_at(engine: Engine, clock: StillClock) -> OpenLog:
    key = VerifierKey(WITNESS, notes.COSIGNATURE, WITNESS_KEY.public_key().public_bytes_raw())
    return opened(engine, OwnRoot(), clock=clock, quorum=1, witnesses=[WitnessSettings(key, "")])


def now() -> StillClock:
    return StillClock(time.time_ns() // 1000)


def test_every_method_that_changes_something_is_tried_here() -> None:
    methods = {method.name for method in audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"].methods}
    assert {method for method in methods if not method.startswith(READING)} == CHANGES.keys()


@pytest.mark.parametrize("method", CHANGES)
def test_a_change_whose_event_the_log_did_not_take_is_told_pending_and_recorded_by_the_next_writer(
    engine: Engine, method: str
) -> None:
    clock = now()
    log = opened_at(engine, clock)
    log.log.append([FIRST])
    call = own_call(method)
    CHANGES[method](log, call)
    assert call.outbox is not None
    made = Made(call, object(), None, TraceContext("", "", sampled=False), 0.0)
    made.conclude()
    told = made.kept(StrongroomError(Reason.AUDIT_UNREACHABLE, "handed over"))
    assert told is not None
    assert told.reason is Reason.AUDIT_PENDING
    log.log.hand_over()
    log.stop()

    clock.us += DAY_US
    again = opened_at(engine, clock)
    again.changes.outbox.sweep()
    (found,) = [one for one in events_of(again, "acme") if one.id == call.events[0].id]
    assert (found.action, found.outcome) == (f"audit:{method}", Outcome.OUTCOME_ALLOWED)
    assert HAS_CHANGED[method](again)
    again.stop()


@pytest.mark.parametrize("method", CHANGES)
def test_a_process_that_has_handed_the_log_over_changes_nothing(engine: Engine, method: str) -> None:
    log = opened_at(engine, now())
    log.log.append([FIRST])
    until(lambda: log.publisher.signed is not None)
    log.log.hand_over()
    call = own_call(method)
    assert reason_of(partial(CHANGES[method], log, call)) is Reason.AUDIT_UNREACHABLE
    assert (call.outbox, HAS_CHANGED[method](log)) == (None, False)
    log.stop()


@pytest.mark.parametrize("method", CHANGES)
def test_a_process_that_another_has_overtaken_changes_nothing(engine: Engine, method: str) -> None:
    log = opened_at(engine, now())
    log.log.append([FIRST])
    until(lambda: log.publisher.signed is not None)
    LogStore(engine).take_over()
    call = own_call(method)
    assert reason_of(partial(CHANGES[method], log, call)) is Reason.AUDIT_UNREACHABLE
    assert (call.outbox, HAS_CHANGED[method](log)) == (None, False)
    log.stop()


def test_events_that_are_counted_while_the_log_is_handed_over_stay_readable(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened_at(engine, now())
    log.log.append([FIRST])
    count = log.retention._archive.count_sealed

    def counted(keys: list[bytes]) -> int:
        log.log.hand_over()
        return count(keys)

    monkeypatch.setattr(log.retention._archive, "count_sealed", counted)
    assert reason_of(lambda: log.retention.shred(own_call(), "acme", None)) is Reason.AUDIT_UNREACHABLE
    assert not HAS_CHANGED["ShredAccountEvents"](log)
    log.stop()


def shred_and_die(url: str) -> None:
    """Ends as by kill -9 when the sealing keys are destroyed and nothing else has happened."""
    log = opened(database.open_database(Database(url=url)), OwnRoot(), quorum=1)
    log.log.append([FIRST])
    call = own_call("ShredAccountEvents")
    Call.committed = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
    log.retention.shred(call, "acme", None)


def test_a_process_killed_between_the_change_and_its_event_leaves_both(engine: Engine, tmp_path: Path) -> None:
    child = multiprocessing.get_context("spawn").Process(target=shred_and_die, args=(f"sqlite:///{tmp_path}/audit.db",))
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    clock = now()
    clock.us += DAY_US
    log = opened_at(engine, clock)
    log.changes.outbox.sweep()
    (found,) = events_of(log, "acme")
    assert (found.action, found.attributes["event_count"]) == ("audit:ShredAccountEvents", "1")
    log.stop()


def test_an_event_of_an_account_with_another_log_goes_there(tmp_path: Path) -> None:
    clock, logs = now(), []
    for name in ("a", "b"):
        engine = database.open_database(Database(url=f"sqlite:///{tmp_path}/{name}.db"))
        databases.migrate(engine, "audit")
        logs.append(opened(engine, OwnRoot(), clock=clock, name=name))
    both = Logs(logs)
    other = next(log for log in both if log is not both.of_account("acme"))
    call = own_call()
    other.retention.update_hold(call, LegalHold("other", True, "case"), HOLD_PATHS, "")
    clock.us += DAY_US
    other.changes.outbox.sweep()
    assert [one.id for one in events_of(both.of_account("acme"), "acme")] == [call.events[0].id]
    both.stop()
