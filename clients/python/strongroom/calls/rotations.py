"""Rotations of secrets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from strongroom.calls.base import new_request_id, pages
from strongroom.calls.secrets import (
    RotationPolicy,
    Secret,
    SecretCalls,
    answered_secret,
    policy_message,
    secret_of,
    state_text,
)
from strongroom.convert import enum_text, moment
from strongroom.secrets.v1 import rotation_pb2
from strongroom.secrets.v1 import secret_service_pb2 as pb
from strongroom.transport import Answer

_LARGEST_PAGE = 100


@dataclass(frozen=True, slots=True)
class RotationAttempt:
    """One try of one step. `error_reason` is empty when it went well; `end_time` is absent while it runs, or when its
    process died."""

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
    """One rotation of a secret. `state` is RUNNING, WAITING, FAILED, SUCCEEDED or CANCELLED; `step` CREATE, SET, TEST
    or FINISH; `trigger` SCHEDULE, MANUAL or CREATION."""

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
    """What a repair found and did: `action` is NONE, PROMOTE_PENDING, RETURN_TO_PREVIOUS, SET_CURRENT or IMPOSSIBLE."""

    secret: Secret
    checks: tuple[CredentialCheck, ...]
    action: str
    event_id: str


class RotationCalls(SecretCalls):
    """Methods that rotate secrets; `secret` as in SecretCalls."""

    def rotate_secret(self, secret: str, *, timeout: float | None = None) -> Rotation:
        """Begins a rotation now, and does not wait for its end. Raises ROTATION_ACTIVE, ROTATION_UNSUPPORTED."""
        request = pb.RotateSecretRequest(name=self.names.secret(secret), request_id=new_request_id())
        return _answered(self._secrets.call(self._secrets.stub.RotateSecret, request, timeout))

    def resume_rotation(self, secret: str, *, timeout: float | None = None) -> Rotation:
        """Lets a rotation that FAILED or WAITS go on now. Raises ROTATION_STATE_INVALID."""
        request = pb.ResumeRotationRequest(name=self.names.secret(secret))
        return _answered(self._secrets.call(self._secrets.stub.ResumeRotation, request, timeout))

    def cancel_rotation(self, secret: str, *, timeout: float | None = None) -> Rotation:
        """Gives up a rotation that FAILED or WAITS, once the target accepts Current. Raises ROTATION_STATE_INVALID, and
        what the target says."""
        request = pb.CancelRotationRequest(name=self.names.secret(secret))
        return _answered(self._secrets.call(self._secrets.stub.CancelRotation, request, timeout))

    def repair_secret(self, secret: str, *, dry_run: bool = False, timeout: float | None = None) -> Repair:
        """Tries every credential on the target, and puts secret and target back in step. Raises ROTATION_UNSUPPORTED,
        TARGET_UNREACHABLE, REPAIR_IMPOSSIBLE."""
        request = pb.RepairSecretRequest(name=self.names.secret(secret), validate_only=dry_run)
        answer = self._secrets.call(self._secrets.stub.RepairSecret, request, timeout)
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

    def update_secret_rotation_policy(
        self, secret: str, policy: RotationPolicy | None, *, timeout: float | None = None
    ) -> Secret:
        """Sets the rotation policy, or removes it with None. Raises FIELD_INVALID, ROTATION_UNSUPPORTED."""
        message = policy_message(policy) if policy else None
        request = pb.UpdateRotationPolicyRequest(name=self.names.secret(secret), rotation_policy=message)
        return answered_secret(self._secrets.call(self._secrets.stub.UpdateRotationPolicy, request, timeout))

    def list_rotations(
        self,
        secret: str,
        filter: str = "",  # noqa: A002  # the contract's word
        *,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Rotation]:
        """A secret's rotations with what was tried, newest first, such as those of `state = FAILED`."""
        name = self.names.secret(secret)

        def fetch(token: str, size: int) -> tuple[Iterator[Rotation], str]:
            size = min(size, _LARGEST_PAGE)
            request = pb.ListRotationsRequest(parent=name, filter=filter, page_token=token, page_size=size)
            page = self._secrets.call(self._secrets.stub.ListRotations, request, timeout).response
            return map(_rotation, page.rotations), page.next_page_token

        return pages(fetch, limit)


def _answered(answer: Answer[rotation_pb2.Rotation]) -> Rotation:
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
