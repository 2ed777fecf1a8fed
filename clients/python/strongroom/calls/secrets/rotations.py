"""Rotations of secrets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from strongroom.calls.base import Part, pages
from strongroom.calls.secrets.records import Secret, secret_of, state_text
from strongroom.convert import enum_text, moment
from strongroom.secrets.v1 import rotation_pb2
from strongroom.secrets.v1 import secret_service_pb2 as pb
from strongroom.secrets.v1.secret_service_pb2_grpc import SecretServiceStub
from strongroom.transport import Answer

_LARGEST_PAGE = 100


@dataclass(frozen=True, slots=True)
class RotationAttempt:
    """One try of one step of a rotation.

    `error_reason` is empty when it went well; `end_time` is None while it runs, or when its process died.
    """

    step: str
    number: int
    start_time: datetime | None
    end_time: datetime | None
    error_reason: str
    error_detail: str
    instance: str
    fencing_token: int
    trace_id: str


@dataclass(frozen=True, slots=True)
class Rotation:
    """One rotation of a secret. `state` is RUNNING, WAITING, FAILED, SUCCEEDED or CANCELLED.

    `step` is CREATE, SET, TEST or FINISH; `trigger` SCHEDULE, MANUAL or CREATION.
    """

    name: str
    state: str
    step: str
    trigger: str
    requester: str
    version: str
    previous_version: str
    attempts: tuple[RotationAttempt, ...]
    attempt_count: int
    due_time: datetime | None
    start_time: datetime | None
    next_attempt_time: datetime | None
    end_time: datetime | None
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class CredentialCheck:
    """Whether one credential (`Pending`, `Current`, `Previous` or `master`) logs in to the target."""

    credential: str
    version: str
    accepted: bool
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repair found and did.

    `action` is NONE, PROMOTE_PENDING, RETURN_TO_PREVIOUS, SET_CURRENT or IMPOSSIBLE.
    """

    secret: Secret
    checks: tuple[CredentialCheck, ...]
    action: str
    event_id: str


class SecretRotations(Part[SecretServiceStub]):
    """Rotations of secrets: what was tried, and what to do with one that does not go on by itself.

    `secret` is an id (`payments/db`) or a full name.
    """

    def resume(self, secret: str, *, timeout: float | None = None) -> Rotation:
        """Lets a rotation that FAILED or is WAITING go on now. Raises ROTATION_STATE_INVALID."""
        request = pb.ResumeRotationRequest(name=self._names.secret(secret))
        return answered_rotation(self._service.call(self._service.stub.ResumeRotation, request, timeout))

    def cancel(self, secret: str, *, timeout: float | None = None) -> Rotation:
        """Gives up a rotation that FAILED or is WAITING, once the target accepts the value at Current.

        Raises ROTATION_STATE_INVALID, and the target's own refusal.
        """
        request = pb.CancelRotationRequest(name=self._names.secret(secret))
        return answered_rotation(self._service.call(self._service.stub.CancelRotation, request, timeout))

    def repair(self, secret: str, *, dry_run: bool = False, timeout: float | None = None) -> Repair:
        """Tries every credential on the target, and puts secret and target back in step.

        With `dry_run` it only tells what it would do. Raises ROTATION_UNSUPPORTED, TARGET_UNREACHABLE,
        REPAIR_IMPOSSIBLE.
        """
        request = pb.RepairSecretRequest(name=self._names.secret(secret), validate_only=dry_run)
        answer = self._service.call(self._service.stub.RepairSecret, request, timeout)
        repair = answer.response
        return Repair(
            secret=secret_of(repair.secret),
            checks=tuple(
                CredentialCheck(check.credential, check.version, check.accepted, check.reason, check.detail)
                for check in repair.checks
            ),
            action=enum_text(pb.RepairAction, "REPAIR_ACTION_", repair.action),
            event_id=answer.event_id,
        )

    def list(
        self,
        secret: str,
        filter: str = "",  # noqa: A002  # the contract's word
        *,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Rotation]:
        """Lists a secret's rotations with what was tried, newest first.

        `filter` is such as `state = FAILED`. Pages are fetched as they are needed, `limit` items at most; `timeout` is
        for each page.
        """
        name = self._names.secret(secret)

        def fetch(token: str, size: int) -> tuple[Iterator[Rotation], str]:
            size = min(size, _LARGEST_PAGE)
            request = pb.ListRotationsRequest(parent=name, filter=filter, page_token=token, page_size=size)
            page = self._service.call(self._service.stub.ListRotations, request, timeout).response
            return map(_rotation, page.rotations), page.next_page_token

        return pages(fetch, limit)


def answered_rotation(answer: Answer[rotation_pb2.Rotation]) -> Rotation:
    """The rotation that a call answered."""
    return _rotation(answer.response, answer.event_id)


def _rotation(rotation: rotation_pb2.Rotation, event_id: str = "") -> Rotation:
    return Rotation(
        name=rotation.name,
        state=state_text(rotation.state),
        step=_step(rotation.step),
        trigger=enum_text(rotation_pb2.RotationTrigger, "ROTATION_TRIGGER_", rotation.trigger),
        requester=rotation.requester,
        version=rotation.version,
        previous_version=rotation.previous_version,
        attempts=tuple(map(_attempt, rotation.attempts)),
        attempt_count=rotation.attempt_count,
        due_time=moment(rotation.due_time),
        start_time=moment(rotation.start_time),
        next_attempt_time=moment(rotation.next_attempt_time),
        end_time=moment(rotation.end_time),
        event_id=event_id,
    )


def _attempt(attempt: rotation_pb2.RotationAttempt) -> RotationAttempt:
    return RotationAttempt(
        step=_step(attempt.step),
        number=attempt.number,
        start_time=moment(attempt.start_time),
        end_time=moment(attempt.end_time),
        error_reason=attempt.error_reason,
        error_detail=attempt.error_detail,
        instance=attempt.instance,
        fencing_token=attempt.fencing_token,
        trace_id=attempt.trace_id,
    )


def _step(step: rotation_pb2.RotationStep.ValueType) -> str:
    return enum_text(rotation_pb2.RotationStep, "ROTATION_STEP_", step)
