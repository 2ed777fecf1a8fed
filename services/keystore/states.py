"""The states of a key, as one table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from services.runtime.errors import Reason, StrongroomError
from strongroom.keystore.v1.key_pb2 import KEY_STATE_DISABLED, KEY_STATE_ENABLED, KeyState


class KeyEvent(Enum):
    """What can happen to a key."""

    ENABLE = "enabled"
    DISABLE = "disabled"


_NEXT: Mapping[tuple[KeyState.ValueType, KeyEvent], KeyState.ValueType] = {
    (KEY_STATE_ENABLED, KeyEvent.ENABLE): KEY_STATE_ENABLED,
    (KEY_STATE_ENABLED, KeyEvent.DISABLE): KEY_STATE_DISABLED,
    (KEY_STATE_DISABLED, KeyEvent.ENABLE): KEY_STATE_ENABLED,
    (KEY_STATE_DISABLED, KeyEvent.DISABLE): KEY_STATE_DISABLED,
}


def next_state(state: KeyState.ValueType, event: KeyEvent) -> KeyState.ValueType:
    """The state that an event leads to. Raises KEY_STATE_INVALID where the table has none."""
    following = _NEXT.get((state, event))
    if following is None:
        name = KeyState.Name(state).removeprefix("KEY_STATE_")
        raise StrongroomError(Reason.KEY_STATE_INVALID, f"a key that is {name} cannot be {event.value}", state=name)
    return following
