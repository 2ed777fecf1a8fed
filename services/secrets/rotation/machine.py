"""The rotation machine: works on the rotation of one secret for as long as it can go on.

Everything that happens is in the database before and after it happens: an attempt before its step begins, a new value
at Pending before the target hears of it, what came of a step before the next one begins. Whoever works on a rotation
has written the fencing token of its lease into it; every later write is made only while that token is still there, so
that a process that stalled, and whose rotation another took over, cannot move anything.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from random import SystemRandom

from sqlalchemy import Connection, Engine

from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.storage.database import transaction
from services.runtime.storage.outbox import Outbox
from services.runtime.work.schedule import judged
from services.secrets.core import store
from services.secrets.core.editing import add_version, write
from services.secrets.core.model import CURRENT, PENDING, PREVIOUS, Attempt, Rotation, SealedVersion, Secret
from services.secrets.core.pairs import own_pair
from services.secrets.kinds.known import declaration_of
from services.secrets.own_calls import own_call, unrecorded_call
from services.secrets.rotation import store as rotation_store
from services.secrets.rotation import transitions
from services.secrets.rotation.metrics import RotationMetrics
from services.secrets.rotation.plan import Plan, plan
from services.secrets.rotation.policy import next_opening_us
from services.secrets.rotation.rotators.failures import is_of_the_mesh
from services.secrets.rotation.states import OWN_METHODS, RotationEvent, is_ended, next_rotation_state
from services.secrets.rotation.targets.access import Step, TargetAccess, without_credentials
from services.secrets.values.sealing import Sealer
from strongroom.audit.v1.event_pb2 import OUTCOME_FAILED
from strongroom.secrets.v1.rotation_pb2 import (
    ROTATION_STATE_FAILED,
    ROTATION_STATE_SUCCEEDED,
    ROTATION_STATE_WAITING,
    ROTATION_STEP_CREATE,
    ROTATION_STEP_SET,
    ROTATION_STEP_TEST,
    ROTATION_TRIGGER_SCHEDULE,
    RotationStep,
)
from strongroom.secrets.v1.secret_pb2 import SECRET_STATE_ENABLED, SECRET_VERSION_ORIGIN_ROTATION

log = logging.getLogger(__name__)

ATTEMPT_ABANDONED = "ATTEMPT_ABANDONED"
"""The error of an attempt whose process died."""
MAX_INCURABLE = 3
"""How often a step is tried whose error no later try will cure, as the rotator says."""

_SET_AGAIN = (Reason.TARGET_LOGIN_REFUSED, Reason.TARGET_RIGHTS_MISSING)
_SECOND_US = 1_000_000
_FIRST_RETRY_SECONDS = 5.0
_LONGEST_RETRY_SECONDS = 900.0
# While crypto, keystore or the audit log is away: that is no fault of the target's, and does not count.
_OWN_RETRY_SECONDS = 15.0


class _LostError(Exception):
    """Another process has taken the rotation over, or it is not what it was any more."""


@dataclass(frozen=True, slots=True)
class Work:
    """There is something to do: a rotation with an attempt that has begun, and whose it is."""

    secret: Secret
    rotation: Rotation
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Later:
    """There will be something to do in so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Done:
    """There is nothing left to do, or nothing that this process may do."""


Outcome = Work | Later | Done
"""What has come of the work on a rotation so far."""


class RotationWork:
    """Works on rotations whose time has come."""

    def __init__(
        self,
        engine: Engine,
        sealer: Sealer,
        access: TargetAccess,
        outbox: Outbox,
        metrics: RotationMetrics,
        clock: Clock,
        instance: str,
        *,
        first_retry_seconds: float = _FIRST_RETRY_SECONDS,
    ) -> None:
        """`instance` is this process, `{host name}/{process id}`."""
        self._engine = engine
        self._sealer = sealer
        self._access = access
        self._outbox = outbox
        self._metrics = metrics
        self._clock = clock
        self._instance = instance
        self._first_retry_seconds = first_retry_seconds

    def work(self, name: ResourceName, token: int, trace_id: str = "", seen: int | None = None) -> float | None:
        """Works on the secret's rotation under the lease of `token`, and begins one where the policy says so; None when
        there is nothing left to do, or in how many seconds there is. With `seen`, only while that is the token that the
        rotation was last taken up under."""
        try:
            outcome = self._begin(name, token, trace_id, seen)
            while isinstance(outcome, Work):
                outcome = self._tried(outcome)
        except _LostError:
            log.info("another process took over the rotation; this one stops", extra={"fields": {"secret": str(name)}})
            return None
        return outcome.seconds if isinstance(outcome, Later) else None

    # --- taking a rotation up

    def _begin(self, name: ResourceName, token: int, trace_id: str, seen: int | None) -> Outcome:
        with transaction(self._engine) as connection:
            secret = store.secret(connection, name, lock=True)
            now_us = self._now_us()
            if secret is None or secret.state != SECRET_STATE_ENABLED:
                return Done()
            if secret.active_rotation:
                rotation = transitions.active(connection, secret)
            else:
                begun = self._begin_by_policy(connection, secret, now_us)
                if not isinstance(begun, tuple):
                    return begun
                secret, rotation = begun
            if rotation.next_attempt_us is None:
                return Done()
            # What was begun or resumed is due, whatever the clock says of the replica that did so.
            if rotation.state == ROTATION_STATE_WAITING and rotation.next_attempt_us > now_us:
                return Later((rotation.next_attempt_us - now_us) / _SECOND_US)
            if seen is not None and seen != rotation.fencing_token:
                return Done()
            mine = judged(token, rotation.fencing_token, now_us)
            if mine is None:
                # From a Redis whose clock is behind, or that was not emptied when another one was: it catches up.
                return Later((rotation.fencing_token - token) / _SECOND_US + 1.0)
            return self._taken(connection, secret, rotation, mine, trace_id, now_us)

    def _begin_by_policy(
        self, connection: Connection, secret: Secret, now_us: int
    ) -> tuple[Secret, Rotation] | Later | Done:
        policy, due_us = secret.rotation_policy, secret.next_rotate_us
        if policy is None or due_us is None:
            return Done()
        # It may be so late that the window has closed again.
        opens_us = max(due_us, next_opening_us(policy, now_us)) if due_us <= now_us else due_us
        if opens_us > now_us:
            if opens_us != due_us:
                store.update_secret(connection, replace(secret, next_rotate_us=opens_us))
            return Later((opens_us - now_us) / _SECOND_US)
        secret_begun, rotation = transitions.begin(connection, secret, ROTATION_TRIGGER_SCHEDULE, "", due_us, now_us)
        self._record(connection, RotationEvent.BEGIN, secret)
        self._metrics.late((now_us - due_us) / _SECOND_US)
        return write(connection, secret, secret_begun, now_us), rotation

    def _taken(
        self, connection: Connection, secret: Secret, rotation: Rotation, token: int, trace_id: str, now_us: int
    ) -> Outcome:
        mine = replace(rotation, state=next_rotation_state(rotation, RotationEvent.TRY), fencing_token=token)
        last = rotation_store.last_attempt(connection, rotation) if rotation.attempt_count else None
        if last is not None and last.ended_us is None and not last.error_reason:
            rotation_store.end_attempt(connection, rotation, replace(last, error_reason=ATTEMPT_ABANDONED))
            mine = replace(mine, failures=mine.failures + 1)
            if mine.failures >= mine.max_attempts:
                self._fail(connection, secret, mine, ATTEMPT_ABANDONED, now_us)
                return Done()
        tried = rotation_store.attempts_in_step(connection, mine, mine.step) if last is not None else 0
        attempt = self._attempt(connection, mine, tried, trace_id, now_us)
        rotation_store.update_rotation(connection, replace(mine, attempt_count=attempt.ordinal))
        return Work(secret, replace(mine, attempt_count=attempt.ordinal), attempt)

    def _attempt(
        self, connection: Connection, rotation: Rotation, tried: int, trace_id: str, now_us: int, *, ended: bool = False
    ) -> Attempt:
        """A new attempt of the rotation's step, after so many of it; with `ended`, of one that has nothing to do."""
        attempt = Attempt(
            rotation.attempt_count + 1,
            rotation.step,
            tried + 1,
            now_us,
            now_us if ended else None,
            "",
            "",
            self._instance,
            rotation.fencing_token,
            trace_id,
        )
        rotation_store.insert_attempt(connection, rotation, attempt)
        return attempt

    # --- one attempt

    def _tried(self, work: Work) -> Outcome:
        call = unrecorded_call("RotateSecret")
        try:
            outcome = self._advanced(work, self._step(call, work))
        except StrongroomError as error:
            self._metrics.tried(work.secret.type, work.attempt.step, error.reason)
            return self._failed(work, error)
        self._metrics.tried(work.secret.type, work.attempt.step, "")
        return outcome

    def _step(self, call: Call, work: Work) -> SealedVersion | None:
        """Does what the attempt is to do outside the database; in CREATE it answers the new version."""
        secret, rotation = work.secret, work.rotation
        planned = self._plan(secret).at(rotation.step)
        at = {**secret.stages, PENDING: rotation.version}
        wanted = {stage: at.get(stage, 0) if stage in planned.needs else 0 for stage in (PENDING, CURRENT, PREVIOUS)}
        told = Step(rotation.name, work.attempt.number, rotation.fencing_token)
        known = self._access.credentials(
            call, secret, told, pending=wanted[PENDING], current=wanted[CURRENT], previous=wanted[PREVIOUS]
        )
        with without_credentials(known):
            new = planned.work(known) if planned.work is not None else None
            if new is None:
                return None
            name = secret.version_name(secret.latest_version + 1)
            return self._sealer.seal(call, name, secret.key, new, SECRET_VERSION_ORIGIN_ROTATION)

    def _plan(self, secret: Secret) -> Plan:
        return plan(self._access.rotator(secret.type), declaration_of(secret), secret.grace_period_s)

    # --- what came of it

    def _advanced(self, work: Work, added: SealedVersion | None) -> Outcome:
        """Commits what a step did, and begins the next one in the same transaction."""
        with transaction(self._engine) as connection:
            before, rotation = self._mine(connection, work)
            now_us = self._now_us()
            rotation_store.end_attempt(connection, rotation, replace(work.attempt, ended_us=now_us))
            secret = before
            if added is not None:
                number = added.version.name.version
                if number != secret.latest_version + 1:
                    raise _LostError
                secret = add_version(connection, secret, added, {PENDING: number}, now_us)
                rotation = replace(rotation, version=number)
            return self._next(connection, before, secret, rotation, work.attempt.trace_id, now_us)

    def _next(
        self, connection: Connection, before: Secret, secret: Secret, rotation: Rotation, trace_id: str, now_us: int
    ) -> Outcome:
        """Goes on to the next step that this rotator has something to do in, or to the end."""
        # Before CREATE is done no later step can have been tried, unless a target refused what it had made.
        is_first = rotation.step == ROTATION_STEP_CREATE and rotation.attempt_count == 1
        own = own_pair(secret, rotation.version)
        for planned in self._plan(secret).after(rotation.step):
            rotation = _advanced_to(planned.step, rotation)
            if planned.moves_current:
                secret = transitions.promote(secret, rotation.version)
                rotation = replace(rotation, promoted_us=now_us)
            tried = 0 if is_first else rotation_store.attempts_in_step(connection, rotation, rotation.step)
            begins = planned.begins_at_once
            attempt = self._attempt(connection, rotation, tried, trace_id, now_us, ended=not begins)
            rotation = replace(rotation, attempt_count=attempt.ordinal)
            if begins:
                rotation_store.update_rotation(connection, rotation)
                return Work(write(connection, before, secret, now_us, own), rotation, attempt)
            if planned.work is not None:
                later = _put_off(connection, rotation, float(planned.wait_s), now_us)
                write(connection, before, secret, now_us, own)
                return later
        succeeded = self._succeed(connection, secret, rotation, now_us)
        write(connection, before, succeeded, now_us, own)
        return Done()

    def _failed(self, work: Work, error: StrongroomError) -> Outcome:
        with transaction(self._engine) as connection:
            secret, rotation = self._mine(connection, work)
            now_us = self._now_us()
            ended = replace(work.attempt, ended_us=now_us, error_reason=error.reason, error_detail=error.message)
            rotation_store.end_attempt(connection, rotation, ended)
            if is_of_the_mesh(error):
                return _tried_again(connection, rotation, _OWN_RETRY_SECONDS, now_us)
            if rotation.step == ROTATION_STEP_TEST and error.reason in _SET_AGAIN:
                # The target has forgotten it, or never took it in: somebody else changed it, or it was restored.
                rotation = replace(rotation, step=ROTATION_STEP_SET)
            if rotation.step == ROTATION_STEP_SET and error.reason is Reason.TARGET_VALUE_REFUSED:
                # By a policy of the target's own: no later try takes this value, and another may pass.
                secret, rotation = self._without_value(connection, secret, rotation, now_us)
            incurable = rotation.incurable_failures + bool(error.metadata.get("incurable"))
            rotation = replace(rotation, failures=rotation.failures + 1, incurable_failures=incurable)
            if rotation.failures >= rotation.max_attempts or incurable >= MAX_INCURABLE:
                self._fail(connection, secret, rotation, error.reason, now_us)
                return Done()
            doubled = self._first_retry_seconds * 2.0 ** (rotation.failures - 1)
            return _tried_again(connection, rotation, min(doubled, _LONGEST_RETRY_SECONDS), now_us)

    @staticmethod
    def _without_value(
        connection: Connection, secret: Secret, rotation: Rotation, now_us: int
    ) -> tuple[Secret, Rotation]:
        left = transitions.drop_pending(connection, secret, rotation, now_us)
        return write(connection, secret, left, now_us), replace(rotation, step=ROTATION_STEP_CREATE, version=0)

    def _fail(self, connection: Connection, secret: Secret, rotation: Rotation, reason: str, now_us: int) -> None:
        """After the last try: waits for a person, and says so."""
        state = next_rotation_state(rotation, RotationEvent.FAIL)
        rotation_store.update_rotation(connection, replace(rotation, state=state, next_attempt_us=None))
        write(connection, secret, replace(secret), now_us)
        self._record(connection, RotationEvent.FAIL, secret, reason=reason)
        self._metrics.ended(secret.type, ROTATION_STATE_FAILED)
        log.error(
            "a rotation failed for good and needs a person",
            extra={"fields": {"rotation": rotation.name, "reason": reason}},
        )

    def _succeed(self, connection: Connection, secret: Secret, rotation: Rotation, now_us: int) -> Secret:
        ended = transitions.end(connection, secret, rotation, RotationEvent.SUCCEED, now_us)
        self._record(connection, RotationEvent.SUCCEED, secret, version=rotation.version)
        self._metrics.ended(secret.type, ROTATION_STATE_SUCCEEDED, (now_us - rotation.started_us) / _SECOND_US)
        return ended

    def _record(
        self, connection: Connection, event: RotationEvent, secret: Secret, *, version: int = 0, reason: str = ""
    ) -> None:
        """Has the audit log hear of what the service did by itself, with the version that it made or why it failed."""
        call = own_call(OWN_METHODS[event], secret.name)
        if version:
            call.events[0].secret_version = str(secret.version_name(version))
        if reason:
            call.conclude(OUTCOME_FAILED, reason)
        self._outbox.put(connection, call)

    def _mine(self, connection: Connection, work: Work) -> tuple[Secret, Rotation]:
        """The secret and its rotation, locked, once they are still this process's to change."""
        secret = store.secret(connection, work.secret.name, lock=True)
        rotation = rotation_store.rotation(connection, work.secret.name, work.rotation.number)
        if secret is None or rotation is None or is_ended(rotation):
            raise _LostError
        if rotation.fencing_token != work.rotation.fencing_token or rotation.step != work.rotation.step:
            raise _LostError
        return secret, rotation

    def _now_us(self) -> int:
        return self._clock.now_us()


def _advanced_to(step: RotationStep.ValueType, rotation: Rotation) -> Rotation:
    """A rotation in its next step, whose tries are counted from the beginning; but those of values that the target did
    not take count on, or it would be shown one after another for ever."""
    state = next_rotation_state(rotation, RotationEvent.ADVANCE)
    failures = rotation.failures if rotation.step == ROTATION_STEP_CREATE else 0
    return replace(rotation, state=state, step=step, failures=failures, incurable_failures=0)


def _tried_again(connection: Connection, rotation: Rotation, seconds: float, now_us: int) -> Later:
    """Puts a rotation off that failed. Those that failed together do not come back together."""
    return _put_off(connection, rotation, seconds * SystemRandom().uniform(1.0, 1.1), now_us)


def _put_off(connection: Connection, rotation: Rotation, seconds: float, now_us: int) -> Later:
    state = next_rotation_state(rotation, RotationEvent.WAIT)
    later_us = now_us + int(seconds * _SECOND_US)
    rotation_store.update_rotation(connection, replace(rotation, state=state, next_attempt_us=later_us))
    return Later(seconds)
