"""The rotation machine when things go wrong: retries, the last failure, persons who step in, leases lost and Redis
emptied."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from sqlalchemy import update

from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.sensitive import SensitiveBytes
from services.secrets.core.model import PREVIOUS, Secret
from services.secrets.core.tables import secrets
from services.secrets.life.lifecycle import SecretUpdate, StageMove
from services.secrets.rotation.machine import ATTEMPT_ABANDONED
from services.secrets.rotation.rotators.rotator import Credential, RotationContext, Rotator
from services.secrets.values.sealing import NewValue
from services.secrets.work.due import rotation_item
from strongroom.audit.v1.event_pb2 import OUTCOME_FAILED
from strongroom.secrets.v1 import rotation_pb2 as r
from strongroom.secrets.v1 import secret_service_pb2 as pb
from strongroom.secrets.v1.secret_pb2 import SECRET_TYPE_GENERIC, VALUE_FORMAT_TEXT
from tests.support.clients import until
from tests.support.clocks import StillClock
from tests.support.rotation.lab import ACCOUNT, Lab, person
from tests.support.rotation.subjects import Generic, Postgresql, RedisAcl, Remote, Subject

NAME = ResourceName(ACCOUNT, "secrets", "s")


class Faulty:
    """A rotator that fails, or waits, at one of its steps as long as the test says so."""

    def __init__(self, rotator: Rotator, step: str) -> None:
        self._rotator = rotator
        self._step = step
        self.error: StrongroomError | None = None
        self.before: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> object:
        found = getattr(self._rotator, name)
        if name != self._step:
            return found

        def run(context: RotationContext, *credentials: Credential | None) -> object:
            self.before()
            if self.error is not None:
                raise self.error
            return found(context, *credentials)

        return run


class Faults:
    """Wraps every rotator of a lab."""

    def __init__(self, step: str) -> None:
        self._step = step
        self.all: list[Faulty] = []

    def __call__(self, rotator: Rotator) -> Rotator:
        faulty = Faulty(rotator, self._step)
        self.all.append(faulty)
        return faulty  # type: ignore[return-value]  # it answers what it does not know from the rotator

    def fail(self, error: StrongroomError | None) -> None:
        for faulty in self.all:
            faulty.error = error

    def do_before(self, work: Callable[[], None]) -> None:
        for faulty in self.all:
            faulty.before = work


def refused(detail: str = "not now") -> StrongroomError:
    return StrongroomError(Reason.TARGET_CHANGE_REFUSED, detail)


def emptied(lab: Lab) -> None:
    lab.redis.flushall()


def work_for(lab: Lab, seconds: float, done: Callable[[], bool]) -> None:
    """Works on what is due until it is done."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        lab.work_until_idle()
        time.sleep(0.01)


def test_a_step_that_fails_is_tried_again_and_every_try_is_kept(make_lab: Callable[..., Lab]) -> None:
    faults = Faults("create")
    lab = make_lab(wrap=faults)
    Generic().create(lab, "s")
    lab.rotate("s")
    faults.fail(refused("the password was first value, or not"))

    lab.work_until_idle()
    waiting = lab.rotation("s")
    faults.fail(None)
    work_for(lab, 20, lambda: lab.rotation("s").state == r.ROTATION_STATE_SUCCEEDED)

    assert waiting.state == r.ROTATION_STATE_WAITING
    assert waiting.next_attempt_us is not None
    first, second = (attempt for attempt in lab.attempts("s") if attempt.step == r.ROTATION_STEP_CREATE)
    assert (first.number, first.error_reason) == (1, "TARGET_CHANGE_REFUSED")
    assert first.error_detail == "the password was [redacted], or not"
    assert (second.number, second.error_reason) == (2, "")


def test_after_the_last_try_it_waits_for_a_person_and_current_stays(make_lab: Callable[..., Lab]) -> None:
    faults = Faults("create")
    lab = make_lab(wrap=faults, first_retry_seconds=0.001)
    Generic().create(lab, "s")
    lab.rotations.plan(
        person("UpdateRotationPolicy"), NAME, r.RotationPolicy(period=Duration(seconds=86_400), max_attempts=3)
    )
    lab.rotate("s")
    faults.fail(refused())
    work_for(lab, 20, lambda: lab.rotation("s").state == r.ROTATION_STATE_FAILED)

    assert [attempt.error_reason for attempt in lab.attempts("s")] == ["TARGET_CHANGE_REFUSED"] * 3
    assert lab.value("s") == b"first value"
    told = [event for event in lab.events() if event.outcome == OUTCOME_FAILED]
    assert [(event.principal, event.reason) for event in told] == [("services/secrets", "TARGET_CHANGE_REFUSED")]
    with pytest.raises(StrongroomError, match="ROTATION_ACTIVE"):
        lab.rotate("s")

    faults.fail(None)
    lab.rotations.resume(person("ResumeRotation"), NAME)
    work_for(lab, 20, lambda: lab.rotation("s").state == r.ROTATION_STATE_SUCCEEDED)
    assert lab.value("s") != b"first value"
    assert lab.value("s", PREVIOUS) == b"first value"


def test_what_no_later_try_will_cure_is_tried_three_times(make_lab: Callable[..., Lab]) -> None:
    faults = Faults("create")
    lab = make_lab(wrap=faults, first_retry_seconds=0.001)
    Generic().create(lab, "s")
    lab.rotate("s")
    faults.fail(StrongroomError(Reason.ROTATOR_FAILED, "never", incurable="true"))
    work_for(lab, 20, lambda: lab.rotation("s").state == r.ROTATION_STATE_FAILED)
    assert len(lab.attempts("s")) == 3


def test_a_secret_without_room_for_a_version_says_so(lab: Lab) -> None:
    Generic().create(lab, "s")
    lab.lifecycle.update(person("UpdateSecret"), SecretUpdate(NAME, {"retained_versions": 2}))
    lab.lifecycle.move_stage(person("UpdateSecretVersionStage"), NAME, StageMove("blue", 1, 0))
    value = NewValue(SensitiveBytes(b"second value"), VALUE_FORMAT_TEXT)
    lab.vault.put(person("PutSecretValue"), NAME, value, ["Current"])
    lab.rotate("s")
    lab.due_work.work_once()
    assert [attempt.error_reason for attempt in lab.attempts("s")] == ["LIMIT_EXCEEDED"]
    assert lab.rotation("s").state == r.ROTATION_STATE_WAITING
    assert lab.value("s") == b"second value"


def test_an_outage_of_crypto_does_not_use_up_the_tries(lab: Lab) -> None:
    Generic().create(lab, "s")
    lab.rotate("s")
    lab.data_keys.failing = StrongroomError(Reason.CRYPTO_UNREACHABLE, "crypto cannot be reached")
    lab.work_until_idle()

    waiting = lab.rotation("s")
    assert (waiting.state, waiting.failures) == (r.ROTATION_STATE_WAITING, 0)
    assert [attempt.error_reason for attempt in lab.attempts("s")] == ["CRYPTO_UNREACHABLE"]
    lab.data_keys.failing = None
    lab.rotations.resume(person("ResumeRotation"), NAME)
    lab.work_until_idle()
    assert lab.rotation("s").state == r.ROTATION_STATE_SUCCEEDED


def test_a_replica_that_stalled_cannot_finish_what_another_took_over(make_lab: Callable[..., Lab]) -> None:
    faults = Faults("create")
    stalled = make_lab(wrap=faults, lease_seconds=0.5)
    other = make_lab()
    Generic().create(stalled, "s")
    stalled.rotate("s")

    def stall() -> None:
        # While this replica stands still its lease ends, and the other does the work.
        work_for(other, 20, lambda: other.rotation("s").state == r.ROTATION_STATE_SUCCEEDED)

    faults.do_before(stall)
    assert stalled.due_work.work_once()

    secret = other.secret("s")
    assert (secret.rotation_count, secret.latest_version) == (1, 2)
    assert dict(secret.stages) == {"Current": 2, "Previous": 1}
    reasons = [attempt.error_reason for attempt in other.attempts("s")]
    assert reasons == [ATTEMPT_ABANDONED, "", "", "", ""]


def test_a_redis_that_is_emptied_in_the_middle_loses_nothing(make_lab: Callable[..., Lab]) -> None:
    faults = Faults("create")
    lab, other = make_lab(wrap=faults), make_lab()
    Generic().create(lab, "s")
    lab.rotate("s")
    faults.do_before(lambda: emptied(lab))
    lab.work_until_idle()
    assert lab.rotation("s").state == r.ROTATION_STATE_SUCCEEDED
    other.work_until_idle()
    assert lab.secret("s").rotation_count == 1


def test_what_fell_due_while_redis_had_lost_everything_is_done_once(make_lab: Callable[..., Lab]) -> None:
    labs = [make_lab() for _ in range(3)]
    policy = r.RotationPolicy(period=Duration(seconds=86_400))
    labs[0].create("s", SECRET_TYPE_GENERIC, b"first value", policy=policy)
    with labs[0].engine.execution_options(writes=True).begin() as connection:
        connection.execute(update(secrets).values(next_rotate_us=time.time_ns() // 1000 - 60_000_000))
    labs[0].redis.flushall()
    for lab in labs:
        lab.work_until_idle()

    secret = labs[0].secret("s")
    assert (secret.rotation_count, secret.latest_version) == (1, 2)
    assert secret.next_rotate_us is not None
    assert secret.next_rotate_us > time.time_ns() // 1000


def test_a_lease_from_a_redis_whose_clock_is_behind_waits_until_it_has_caught_up(make_lab: Callable[..., Lab]) -> None:
    faults = Faults("create")
    lab = make_lab(wrap=faults, first_retry_seconds=0.001)
    Generic().create(lab, "s")
    lab.rotate("s")
    token = lab.clock.now_us()
    faults.fail(refused())
    lab.work.work(NAME, token)
    faults.fail(None)
    time.sleep(0.01)

    assert lab.work.work(NAME, token - 30_000_000) == pytest.approx(31.0)
    assert lab.rotation("s").fencing_token == token
    assert lab.work.work(NAME, token + 1) is None
    assert lab.rotation("s").state == r.ROTATION_STATE_SUCCEEDED


def test_cancelling_gives_the_target_its_current_value_back(
    make_lab: Callable[..., Lab], subject_of: Callable[[str], Subject], secret_id: str
) -> None:
    faults = Faults("test")
    lab = make_lab(wrap=faults, first_retry_seconds=30)
    subject = subject_of("postgresql")
    subject.create(lab, secret_id)
    first = lab.value(secret_id)
    lab.rotate(secret_id)
    faults.fail(refused())
    lab.work_until_idle()
    assert not subject.accepts(first)

    faults.fail(None)
    name = ResourceName(ACCOUNT, "secrets", secret_id)
    cancelled = lab.rotations.cancel(person("CancelRotation"), name)

    assert cancelled.state == r.ROTATION_STATE_CANCELLED
    assert lab.value(secret_id) == first
    assert subject.accepts(first)
    assert dict(lab.secret(secret_id).stages) == {"Current": 1}
    with pytest.raises(StrongroomError, match="ROTATION_STATE_INVALID"):
        lab.rotations.cancel(person("CancelRotation"), name)


@pytest.mark.parametrize(
    ("change", "action"),
    [
        ("nothing", pb.REPAIR_ACTION_NONE),
        ("previous", pb.REPAIR_ACTION_RETURN_TO_PREVIOUS),
        ("something else", pb.REPAIR_ACTION_SET_CURRENT),
    ],
)
def test_a_target_that_was_changed_by_hand_is_put_back_in_step(
    lab: Lab, subject_of: Callable[[str], Subject], secret_id: str, change: str, action: int
) -> None:
    subject = subject_of("postgresql-master")
    assert isinstance(subject, Postgresql)
    subject.create(lab, secret_id)
    first = lab.value(secret_id)
    lab.rotate(secret_id)
    lab.work_until_idle()
    current = lab.value(secret_id)
    name = ResourceName(ACCOUNT, "secrets", secret_id)
    if change == "previous":
        password = json.loads(first)["password"]
        subject.execute("ALTER ROLE {} PASSWORD " + f"'{password}'", f"u_{secret_id}")
    elif change == "something else":
        subject.execute("ALTER ROLE {} PASSWORD 'typed by somebody'", f"u_{secret_id}")

    tried = lab.repairs.repair(person("RepairSecret"), name, dry_run=True)
    assert (tried.action, lab.value(secret_id)) == (action, current)
    done = lab.repairs.repair(person("RepairSecret"), name, dry_run=False)

    assert done.action == action
    assert subject.accepts(lab.value(secret_id))
    assert lab.value(secret_id) == (first if change == "previous" else current)


def test_a_pending_value_that_the_target_has_taken_in_is_kept_by_a_repair(
    make_lab: Callable[..., Lab], subject_of: Callable[[str], Subject], secret_id: str
) -> None:
    faults = Faults("test")
    lab = make_lab(wrap=faults, first_retry_seconds=30)
    subject = subject_of("postgresql")
    subject.create(lab, secret_id)
    lab.rotate(secret_id)
    faults.fail(refused())
    lab.work_until_idle()
    faults.fail(None)

    done = lab.repairs.repair(person("RepairSecret"), ResourceName(ACCOUNT, "secrets", secret_id), dry_run=False)

    assert done.action == pb.REPAIR_ACTION_PROMOTE_PENDING
    assert subject.accepts(lab.value(secret_id))
    assert lab.rotation(secret_id).state == r.ROTATION_STATE_SUCCEEDED


@pytest.mark.parametrize("reason", [Reason.TARGET_UNREACHABLE, Reason.KEYSTORE_UNREACHABLE])
def test_a_repair_decides_nothing_while_one_credential_could_not_be_tried(
    make_lab: Callable[..., Lab], subject_of: Callable[[str], Subject], secret_id: str, reason: Reason
) -> None:
    faults = Faults("test")
    lab = make_lab(wrap=faults)
    subject_of("grpc").create(lab, secret_id)
    lab.rotate(secret_id)
    lab.work_until_idle()
    stages = lab.secret(secret_id).stages
    asked: list[int] = []

    def fail_once() -> None:
        asked.append(1)
        if len(asked) == 1:
            raise StrongroomError(reason, "not now")

    faults.do_before(fail_once)
    name = ResourceName(ACCOUNT, "secrets", secret_id)
    with pytest.raises(StrongroomError, match=reason):
        lab.repairs.repair(person("RepairSecret"), name, dry_run=False)
    assert lab.secret(secret_id).stages == stages
    assert lab.repairs.repair(person("RepairSecret"), name, dry_run=False).action == pb.REPAIR_ACTION_NONE


def test_no_credential_that_logs_in_cannot_be_repaired(
    lab: Lab, subject_of: Callable[[str], Subject], secret_id: str
) -> None:
    subject = subject_of("postgresql")
    assert isinstance(subject, Postgresql)
    subject.create(lab, secret_id)
    subject.execute("ALTER ROLE {} PASSWORD 'typed by somebody'", f"u_{secret_id}")
    name = ResourceName(ACCOUNT, "secrets", secret_id)
    tried = lab.repairs.repair(person("RepairSecret"), name, dry_run=True)
    assert [(check.credential, check.reason) for check in tried.checks] == [("Current", "TARGET_LOGIN_REFUSED")]
    with pytest.raises(StrongroomError, match="REPAIR_IMPOSSIBLE"):
        lab.repairs.repair(person("RepairSecret"), name, dry_run=False)


def test_the_grace_period_is_waited_for_and_can_be_ended(
    lab: Lab, subject_of: Callable[[str], Subject], secret_id: str
) -> None:
    subject = subject_of("ssh")
    subject.grace_period_s = 3600  # type: ignore[attr-defined]
    subject.create(lab, secret_id)
    first = lab.value(secret_id)
    lab.rotate(secret_id)
    lab.work_until_idle()

    waiting = lab.rotation(secret_id)
    assert (waiting.state, waiting.step) == (r.ROTATION_STATE_WAITING, r.ROTATION_STEP_FINISH)
    assert subject.accepts(first)
    assert subject.accepts(lab.value(secret_id))
    name = ResourceName(ACCOUNT, "secrets", secret_id)
    with pytest.raises(StrongroomError, match="Current has moved"):
        lab.rotations.cancel(person("CancelRotation"), name)

    lab.rotations.resume(person("ResumeRotation"), name)
    lab.work_until_idle()
    assert lab.rotation(secret_id).state == r.ROTATION_STATE_SUCCEEDED
    assert not subject.accepts(first)
    assert subject.accepts(lab.value(secret_id))


def test_a_rotator_of_a_teams_own_says_what_cannot_be_cured(
    make_lab: Callable[..., Lab], subject_of: Callable[[str], Subject], secret_id: str
) -> None:
    lab = make_lab(first_retry_seconds=0.001)
    subject = subject_of("grpc")
    assert isinstance(subject, Remote)
    subject.create(lab, secret_id)
    lab.rotate(secret_id)
    subject.rotator.failing = (grpc.StatusCode.FAILED_PRECONDITION, "the queue is sealed")
    try:
        work_for(lab, 20, lambda: lab.rotation(secret_id).state == r.ROTATION_STATE_FAILED)
    finally:
        subject.rotator.failing = None
    attempts = lab.attempts(secret_id)
    assert [attempt.error_reason for attempt in attempts] == ["ROTATOR_FAILED"] * 3
    assert "FAILED_PRECONDITION" in attempts[0].error_detail
    # Its own words may hold anything.
    assert "the queue is sealed" not in attempts[0].error_detail


def test_a_rotation_that_falls_due_outside_its_window_waits_for_it(make_lab: Callable[..., Lab]) -> None:
    start = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    now = StillClock(int(start.timestamp()) * 10**6)
    lab = make_lab(clock=now)
    window = r.MaintenanceWindow(start="02:00", duration=Duration(seconds=3600))
    lab.create(
        "s", SECRET_TYPE_GENERIC, b"v", policy=r.RotationPolicy(period=Duration(seconds=6 * 3600), window=window)
    )

    def due(secret: Secret) -> datetime:
        assert secret.next_rotate_us is not None
        return datetime.fromtimestamp(secret.next_rotate_us / 1e6, UTC)

    assert due(lab.secret("s")) == datetime(2026, 11, 25, 2, 0, tzinfo=UTC)
    # Nobody worked while the window was open.
    now.us = int(datetime(2026, 11, 25, 3, 30, tzinfo=UTC).timestamp()) * 10**6
    assert lab.work.work(NAME, 1) == pytest.approx(timedelta(hours=22, minutes=30).total_seconds())
    assert lab.secret("s").rotation_count == 0
    now.us = int(datetime(2026, 11, 26, 2, 1, tzinfo=UTC).timestamp()) * 10**6
    assert lab.work.work(NAME, 2) is None
    assert lab.secret("s").rotation_count == 1


def test_rotations_fall_due_in_the_background(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(threads=2)
    Generic().create(lab, "s")
    lab.due_work.start()
    try:
        lab.rotate("s")
        until(lambda: lab.rotation("s").state == r.ROTATION_STATE_SUCCEEDED, 20)
        until(lambda: lab.redis.zscore(lab.schedule._keys[0], rotation_item(NAME)) is None)
    finally:
        lab.due_work.stop()


def test_redis_itself_takes_both_passwords_until_current_has_moved(
    make_lab: Callable[..., Lab], subject_of: Callable[[str], Subject], secret_id: str
) -> None:
    faults = Faults("test")
    lab = make_lab(wrap=faults, first_retry_seconds=30)
    subject = subject_of("redis")
    assert isinstance(subject, RedisAcl)
    subject.create(lab, secret_id)
    lab.rotate(secret_id)
    faults.fail(refused())
    lab.work_until_idle()
    assert subject.accepts(lab.value(secret_id))
    assert subject.accepts(lab.value(secret_id, "Pending"))
