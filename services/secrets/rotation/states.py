"""The states of a rotation, and what its events are called in the audit log, each as one table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from services.runtime.errors import Reason, StrongroomError
from services.runtime.transitions import following
from services.secrets.core.model import Rotation
from strongroom.secrets.v1.rotation_pb2 import (
    ROTATION_STATE_CANCELLED,
    ROTATION_STATE_FAILED,
    ROTATION_STATE_RUNNING,
    ROTATION_STATE_SUCCEEDED,
    ROTATION_STATE_WAITING,
    RotationState,
)


class RotationEvent(Enum):
    """What can happen to a rotation."""

    BEGIN = "begun"
    TRY = "tried"
    ADVANCE = "moved to its next step"
    WAIT = "put off"
    FAIL = "failed"
    SUCCEED = "ended well"
    RESUME = "resumed"
    CANCEL = "cancelled"
    ABANDON = "abandoned"
    REPAIR = "ended by a repair"


_RUNNING, _WAITING, _FAILED = ROTATION_STATE_RUNNING, ROTATION_STATE_WAITING, ROTATION_STATE_FAILED
_SUCCEEDED, _CANCELLED = ROTATION_STATE_SUCCEEDED, ROTATION_STATE_CANCELLED

_NEXT: Mapping[tuple[RotationState.ValueType, RotationEvent], RotationState.ValueType] = {
    (_RUNNING, RotationEvent.TRY): _RUNNING,
    (_RUNNING, RotationEvent.ADVANCE): _RUNNING,
    (_RUNNING, RotationEvent.WAIT): _WAITING,
    (_RUNNING, RotationEvent.FAIL): _FAILED,
    (_RUNNING, RotationEvent.SUCCEED): _SUCCEEDED,
    (_RUNNING, RotationEvent.ABANDON): _CANCELLED,
    (_RUNNING, RotationEvent.REPAIR): _SUCCEEDED,
    (_WAITING, RotationEvent.TRY): _RUNNING,
    (_WAITING, RotationEvent.FAIL): _FAILED,
    (_WAITING, RotationEvent.RESUME): _RUNNING,
    (_WAITING, RotationEvent.CANCEL): _CANCELLED,
    (_WAITING, RotationEvent.ABANDON): _CANCELLED,
    (_WAITING, RotationEvent.REPAIR): _SUCCEEDED,
    (_FAILED, RotationEvent.RESUME): _RUNNING,
    (_FAILED, RotationEvent.CANCEL): _CANCELLED,
    (_FAILED, RotationEvent.ABANDON): _CANCELLED,
    (_FAILED, RotationEvent.REPAIR): _SUCCEEDED,
}

OWN_METHODS: Mapping[RotationEvent, str] = {
    RotationEvent.BEGIN: "RotateSecret",
    RotationEvent.FAIL: "RotateSecret",
    RotationEvent.SUCCEED: "FinishRotation",
}
"""What the audit log calls that which the service does with a rotation by itself."""


def next_rotation_state(rotation: Rotation, event: RotationEvent) -> RotationState.ValueType:
    """The state that an event leads a rotation to. Raises ROTATION_STATE_INVALID where the table has none."""
    return following(_NEXT, rotation.state, event, lambda: _refused(rotation, event))


def _refused(rotation: Rotation, event: RotationEvent) -> StrongroomError:
    state = RotationState.Name(rotation.state).removeprefix("ROTATION_STATE_")
    return StrongroomError(
        Reason.ROTATION_STATE_INVALID, f"{rotation.name}, which is {state}, cannot be {event.value}", state=state
    )


def is_ended(rotation: Rotation) -> bool:
    """Whether it is in a final state."""
    return rotation.state in (_SUCCEEDED, _CANCELLED)
