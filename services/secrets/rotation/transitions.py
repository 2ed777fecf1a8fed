"""How a rotation begins, moves Current, and ends: what the worker, callers and repairs share.

Each function works under the lock on the secret, writes the rotation, and answers the secret as it is to be written.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage import row_seals
from services.secrets.core import store
from services.secrets.core.model import CURRENT, PENDING, PREVIOUS, Rotation, Secret
from services.secrets.rotation import store as rotation_store
from services.secrets.rotation.policy import max_attempts, next_due_us
from services.secrets.rotation.states import RotationEvent, next_rotation_state
from strongroom.secrets.v1.rotation_pb2 import (
    ROTATION_STATE_RUNNING,
    ROTATION_STATE_SUCCEEDED,
    ROTATION_STATE_UNSPECIFIED,
    ROTATION_STEP_CREATE,
    RotationTrigger,
)


def begin(
    connection: Connection,
    secret: Secret,
    trigger: RotationTrigger.ValueType,
    requester: str,
    due_us: int,
    now_us: int,
) -> tuple[Secret, Rotation]:
    """A new rotation, which the schedule then has worked on."""
    number = secret.rotation_count + 1
    rotation = Rotation(
        secret.name,
        number,
        ROTATION_STATE_RUNNING,
        ROTATION_STEP_CREATE,
        trigger,
        requester,
        version=0,
        previous_version=secret.stages.get(CURRENT, 0),
        max_attempts=max_attempts(secret),
        attempt_count=0,
        failures=0,
        incurable_failures=0,
        fencing_token=0,
        due_us=due_us,
        started_us=now_us,
        next_attempt_us=now_us,
    )
    rotation_store.insert_rotation(connection, rotation)
    begun = replace(secret, rotation_count=number, active_rotation=number, active_rotation_state=ROTATION_STATE_RUNNING)
    return begun, rotation


def promote(secret: Secret, version: int) -> Secret:
    """Current moves to `version`, and Previous to what was Current."""
    at = {stage: number for stage, number in secret.stages.items() if (stage, number) != (PENDING, version)}
    if CURRENT in at and at[CURRENT] != version:
        at[PREVIOUS] = at[CURRENT]
    return replace(secret, stages={**at, CURRENT: version})


def end(connection: Connection, secret: Secret, rotation: Rotation, event: RotationEvent, now_us: int) -> Secret:
    """Ends a rotation. The policy counts on from here, also where it ended without a new value: what was given up
    would otherwise begin again at once."""
    state = next_rotation_state(rotation, event)
    rotation_store.update_rotation(connection, replace(rotation, state=state, next_attempt_us=None, ended_us=now_us))
    succeeded = state == ROTATION_STATE_SUCCEEDED
    return replace(
        secret,
        active_rotation=0,
        active_rotation_state=ROTATION_STATE_UNSPECIFIED,
        next_rotate_us=next_due_us(secret.rotation_policy, now_us),
        last_rotate_us=now_us if succeeded else secret.last_rotate_us,
    )


def drop_pending(connection: Connection, secret: Secret, rotation: Rotation, now_us: int) -> Secret:
    """Destroys the value that a rotation made and nobody will use."""
    if not rotation.version:
        return secret
    left = store.destroy_values(connection, secret, [rotation.version], now_us)
    return replace(left, stages={stage: at for stage, at in secret.stages.items() if at != rotation.version})


def abandon(connection: Connection, secret: Secret, now_us: int) -> Secret:
    """Ends the rotation that is not ended, if there is one, wherever it is and whatever the target accepts."""
    if not secret.active_rotation:
        return secret
    rotation = active(connection, secret)
    if rotation.promoted_us is not None:
        return end(connection, secret, rotation, RotationEvent.REPAIR, now_us)
    left = drop_pending(connection, secret, rotation, now_us)
    return end(connection, left, rotation, RotationEvent.ABANDON, now_us)


def active(connection: Connection, secret: Secret) -> Rotation:
    """The rotation that is not ended. Raises ROTATION_STATE_INVALID without one."""
    number = secret.active_rotation
    rotation = rotation_store.rotation(connection, secret.name, number) if number else None
    if rotation is None:
        if number:
            raise row_seals.of(connection).refused(f"{secret.name}/rotations/{number}")
        raise StrongroomError(Reason.ROTATION_STATE_INVALID, f"{secret.name} has no rotation that is not ended")
    return rotation
