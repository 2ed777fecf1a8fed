"""Rotations and repairs as the contract writes them."""

from __future__ import annotations

from collections.abc import Sequence

from services.runtime import clock
from services.secrets.core.model import Attempt, Rotation
from services.secrets.handlers.messages import secret_message
from services.secrets.rotation.repairs import Repair
from strongroom.secrets.v1 import rotation_pb2 as pb
from strongroom.secrets.v1.rotation_pb2 import ROTATION_STATE_WAITING
from strongroom.secrets.v1.secret_service_pb2 import CredentialCheck, RepairSecretResponse


def rotation_message(rotation: Rotation, attempts: Sequence[Attempt] = ()) -> pb.Rotation:
    """A rotation as callers see it."""
    waits = rotation.state == ROTATION_STATE_WAITING
    return pb.Rotation(
        name=rotation.name,
        state=rotation.state,
        step=rotation.step,
        trigger=rotation.trigger,
        requester=rotation.requester,
        version=_version(rotation, rotation.version),
        previous_version=_version(rotation, rotation.previous_version),
        attempts=map(_attempt, attempts),
        attempt_count=rotation.attempt_count,
        due_time=clock.from_microseconds(rotation.due_us),
        start_time=clock.from_microseconds(rotation.started_us),
        next_attempt_time=clock.optional_moment(rotation.next_attempt_us) if waits else None,
        end_time=clock.optional_moment(rotation.ended_us),
    )


def repair_message(repair: Repair) -> RepairSecretResponse:
    """What a repair found and did."""
    return RepairSecretResponse(
        secret=secret_message(repair.secret),
        checks=[
            CredentialCheck(
                credential=check.credential,
                version=check.version,
                accepted=check.accepted,
                reason=check.reason,
                detail=check.detail,
            )
            for check in repair.checks
        ],
        action=repair.action,
    )


def _attempt(attempt: Attempt) -> pb.RotationAttempt:
    return pb.RotationAttempt(
        step=attempt.step,
        number=attempt.number,
        start_time=clock.from_microseconds(attempt.started_us),
        end_time=clock.optional_moment(attempt.ended_us),
        error_reason=attempt.error_reason,
        error_detail=attempt.error_detail,
        instance=attempt.instance,
        fencing_token=attempt.fencing_token,
        trace_id=attempt.trace_id,
    )


def _version(rotation: Rotation, number: int) -> str:
    return f"{rotation.secret}/versions/{number}" if number else ""
