"""The states of a key and of its versions, each as one table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from services.runtime.errors import Reason, StrongroomError
from services.runtime.transitions import following
from strongroom.keystore.v1.key_pb2 import (
    KEY_STATE_DESTROYED,
    KEY_STATE_DISABLED,
    KEY_STATE_ENABLED,
    KEY_STATE_PENDING_DELETION,
    KEY_STATE_PENDING_IMPORT,
    KEY_VERSION_STATE_DESTROYED,
    KEY_VERSION_STATE_DISABLED,
    KEY_VERSION_STATE_ENABLED,
    KEY_VERSION_STATE_PENDING_DESTRUCTION,
    KEY_VERSION_STATE_PENDING_IMPORT,
    KeyState,
    KeyVersionState,
)


class KeyEvent(Enum):
    """What can happen to a key."""

    ENABLE = "enabled"
    DISABLE = "disabled"
    DESCRIBE = "changed"
    PROTECT = "protected or unprotected"
    PLAN_ROTATION = "given a rotation policy"
    ROTATE = "rotated"
    CHOOSE_PRIMARY = "given another primary version"
    CHANGE_VERSION = "changed in its versions"
    GAIN_MATERIAL = "given its primary version's material"
    LOSE_MATERIAL = "deprived of its primary version's material"
    SCHEDULE_DELETION = "scheduled for deletion"
    CANCEL_DELETION = "saved from deletion"
    DESTROY = "destroyed"


class VersionEvent(Enum):
    """What can happen to a version of a key."""

    ENABLE = "enabled"
    DISABLE = "disabled"
    CHOOSE = "made primary"
    IMPORT = "given imported material"
    LOSE_MATERIAL = "deprived of imported material"
    PLAN_DESTRUCTION = "scheduled for destruction"
    CANCEL_DESTRUCTION = "saved from destruction"
    DESTROY = "destroyed"
    DESTROY_WITH_KEY = "destroyed with its key"


_NEXT_OF_KEY: Mapping[tuple[KeyState.ValueType, KeyEvent], KeyState.ValueType] = {
    (KEY_STATE_ENABLED, KeyEvent.ENABLE): KEY_STATE_ENABLED,
    (KEY_STATE_ENABLED, KeyEvent.DISABLE): KEY_STATE_DISABLED,
    (KEY_STATE_ENABLED, KeyEvent.DESCRIBE): KEY_STATE_ENABLED,
    (KEY_STATE_ENABLED, KeyEvent.PROTECT): KEY_STATE_ENABLED,
    (KEY_STATE_ENABLED, KeyEvent.PLAN_ROTATION): KEY_STATE_ENABLED,
    (KEY_STATE_ENABLED, KeyEvent.ROTATE): KEY_STATE_ENABLED,
    (KEY_STATE_ENABLED, KeyEvent.CHOOSE_PRIMARY): KEY_STATE_ENABLED,
    (KEY_STATE_ENABLED, KeyEvent.CHANGE_VERSION): KEY_STATE_ENABLED,
    (KEY_STATE_ENABLED, KeyEvent.GAIN_MATERIAL): KEY_STATE_ENABLED,
    (KEY_STATE_ENABLED, KeyEvent.LOSE_MATERIAL): KEY_STATE_PENDING_IMPORT,
    (KEY_STATE_ENABLED, KeyEvent.SCHEDULE_DELETION): KEY_STATE_PENDING_DELETION,
    (KEY_STATE_DISABLED, KeyEvent.ENABLE): KEY_STATE_ENABLED,
    (KEY_STATE_DISABLED, KeyEvent.DISABLE): KEY_STATE_DISABLED,
    (KEY_STATE_DISABLED, KeyEvent.DESCRIBE): KEY_STATE_DISABLED,
    (KEY_STATE_DISABLED, KeyEvent.PROTECT): KEY_STATE_DISABLED,
    (KEY_STATE_DISABLED, KeyEvent.PLAN_ROTATION): KEY_STATE_DISABLED,
    (KEY_STATE_DISABLED, KeyEvent.CHOOSE_PRIMARY): KEY_STATE_DISABLED,
    (KEY_STATE_DISABLED, KeyEvent.CHANGE_VERSION): KEY_STATE_DISABLED,
    (KEY_STATE_DISABLED, KeyEvent.GAIN_MATERIAL): KEY_STATE_DISABLED,
    (KEY_STATE_DISABLED, KeyEvent.LOSE_MATERIAL): KEY_STATE_PENDING_IMPORT,
    (KEY_STATE_DISABLED, KeyEvent.SCHEDULE_DELETION): KEY_STATE_PENDING_DELETION,
    (KEY_STATE_PENDING_IMPORT, KeyEvent.DESCRIBE): KEY_STATE_PENDING_IMPORT,
    (KEY_STATE_PENDING_IMPORT, KeyEvent.PROTECT): KEY_STATE_PENDING_IMPORT,
    (KEY_STATE_PENDING_IMPORT, KeyEvent.PLAN_ROTATION): KEY_STATE_PENDING_IMPORT,
    (KEY_STATE_PENDING_IMPORT, KeyEvent.CHOOSE_PRIMARY): KEY_STATE_ENABLED,
    (KEY_STATE_PENDING_IMPORT, KeyEvent.CHANGE_VERSION): KEY_STATE_PENDING_IMPORT,
    (KEY_STATE_PENDING_IMPORT, KeyEvent.GAIN_MATERIAL): KEY_STATE_ENABLED,
    (KEY_STATE_PENDING_IMPORT, KeyEvent.SCHEDULE_DELETION): KEY_STATE_PENDING_DELETION,
    (KEY_STATE_PENDING_DELETION, KeyEvent.DESCRIBE): KEY_STATE_PENDING_DELETION,
    (KEY_STATE_PENDING_DELETION, KeyEvent.LOSE_MATERIAL): KEY_STATE_PENDING_DELETION,
    (KEY_STATE_PENDING_DELETION, KeyEvent.CANCEL_DELETION): KEY_STATE_DISABLED,
    (KEY_STATE_PENDING_DELETION, KeyEvent.DESTROY): KEY_STATE_DESTROYED,
}

_NEXT_OF_VERSION: Mapping[tuple[KeyVersionState.ValueType, VersionEvent], KeyVersionState.ValueType] = {
    (KEY_VERSION_STATE_ENABLED, VersionEvent.DISABLE): KEY_VERSION_STATE_DISABLED,
    (KEY_VERSION_STATE_ENABLED, VersionEvent.CHOOSE): KEY_VERSION_STATE_ENABLED,
    (KEY_VERSION_STATE_ENABLED, VersionEvent.IMPORT): KEY_VERSION_STATE_ENABLED,
    (KEY_VERSION_STATE_ENABLED, VersionEvent.LOSE_MATERIAL): KEY_VERSION_STATE_PENDING_IMPORT,
    (KEY_VERSION_STATE_ENABLED, VersionEvent.DESTROY_WITH_KEY): KEY_VERSION_STATE_DESTROYED,
    (KEY_VERSION_STATE_DISABLED, VersionEvent.ENABLE): KEY_VERSION_STATE_ENABLED,
    (KEY_VERSION_STATE_DISABLED, VersionEvent.IMPORT): KEY_VERSION_STATE_DISABLED,
    (KEY_VERSION_STATE_DISABLED, VersionEvent.LOSE_MATERIAL): KEY_VERSION_STATE_PENDING_IMPORT,
    (KEY_VERSION_STATE_DISABLED, VersionEvent.PLAN_DESTRUCTION): KEY_VERSION_STATE_PENDING_DESTRUCTION,
    (KEY_VERSION_STATE_DISABLED, VersionEvent.DESTROY): KEY_VERSION_STATE_DESTROYED,
    (KEY_VERSION_STATE_DISABLED, VersionEvent.DESTROY_WITH_KEY): KEY_VERSION_STATE_DESTROYED,
    (KEY_VERSION_STATE_PENDING_DESTRUCTION, VersionEvent.LOSE_MATERIAL): KEY_VERSION_STATE_PENDING_DESTRUCTION,
    (KEY_VERSION_STATE_PENDING_DESTRUCTION, VersionEvent.CANCEL_DESTRUCTION): KEY_VERSION_STATE_DISABLED,
    (KEY_VERSION_STATE_PENDING_DESTRUCTION, VersionEvent.DESTROY): KEY_VERSION_STATE_DESTROYED,
    (KEY_VERSION_STATE_PENDING_DESTRUCTION, VersionEvent.DESTROY_WITH_KEY): KEY_VERSION_STATE_DESTROYED,
    (KEY_VERSION_STATE_PENDING_IMPORT, VersionEvent.IMPORT): KEY_VERSION_STATE_ENABLED,
    (KEY_VERSION_STATE_PENDING_IMPORT, VersionEvent.DESTROY): KEY_VERSION_STATE_DESTROYED,
    (KEY_VERSION_STATE_PENDING_IMPORT, VersionEvent.DESTROY_WITH_KEY): KEY_VERSION_STATE_DESTROYED,
    (KEY_VERSION_STATE_DESTROYED, VersionEvent.DESTROY_WITH_KEY): KEY_VERSION_STATE_DESTROYED,
}


def next_state(state: KeyState.ValueType, event: KeyEvent) -> KeyState.ValueType:
    """The state that an event leads a key to. Raises KEY_STATE_INVALID where the table has none."""
    return following(
        _NEXT_OF_KEY,
        state,
        event,
        lambda: _invalid("key", KeyState.Name(state).removeprefix("KEY_STATE_"), event),
    )


def next_version_state(state: KeyVersionState.ValueType, event: VersionEvent) -> KeyVersionState.ValueType:
    """The state that an event leads a version to. Raises KEY_STATE_INVALID where the table has none."""
    return following(
        _NEXT_OF_VERSION,
        state,
        event,
        lambda: _invalid("key version", KeyVersionState.Name(state).removeprefix("KEY_VERSION_STATE_"), event),
    )


def _invalid(what: str, state: str, event: KeyEvent | VersionEvent) -> StrongroomError:
    return StrongroomError(Reason.KEY_STATE_INVALID, f"a {what} that is {state} cannot be {event.value}", state=state)
