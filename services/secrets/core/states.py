"""The states of a secret and of its versions, each as one table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.transitions import following
from services.secrets.core.model import Secret, Version
from strongroom.secrets.v1.secret_pb2 import (
    SECRET_STATE_DELETED,
    SECRET_STATE_ENABLED,
    SECRET_STATE_PENDING_DELETION,
    SECRET_VERSION_STATE_DESTROYED,
    SECRET_VERSION_STATE_DISABLED,
    SECRET_VERSION_STATE_ENABLED,
    SecretState,
    SecretVersionState,
)


class SecretEvent(Enum):
    """What can happen to a secret."""

    READ = "read"
    CHANGE = "changed"
    DELETE = "deleted"
    FORCE_DELETE = "deleted for good"
    RESTORE = "restored"


class VersionEvent(Enum):
    """What can happen to a version of a secret."""

    READ = "read"
    ROTATE = "used by its rotation"
    STAGE = "given a stage"
    ENABLE = "enabled"
    DISABLE = "disabled"
    DESTROY = "destroyed"


_NEXT_OF_SECRET: Mapping[tuple[SecretState.ValueType, SecretEvent], SecretState.ValueType] = {
    (SECRET_STATE_ENABLED, SecretEvent.READ): SECRET_STATE_ENABLED,
    (SECRET_STATE_ENABLED, SecretEvent.CHANGE): SECRET_STATE_ENABLED,
    (SECRET_STATE_ENABLED, SecretEvent.DELETE): SECRET_STATE_PENDING_DELETION,
    (SECRET_STATE_ENABLED, SecretEvent.FORCE_DELETE): SECRET_STATE_DELETED,
    (SECRET_STATE_PENDING_DELETION, SecretEvent.FORCE_DELETE): SECRET_STATE_DELETED,
    (SECRET_STATE_PENDING_DELETION, SecretEvent.RESTORE): SECRET_STATE_ENABLED,
}

_NEXT_OF_VERSION: Mapping[tuple[SecretVersionState.ValueType, VersionEvent], SecretVersionState.ValueType] = {
    (SECRET_VERSION_STATE_ENABLED, VersionEvent.READ): SECRET_VERSION_STATE_ENABLED,
    (SECRET_VERSION_STATE_ENABLED, VersionEvent.ROTATE): SECRET_VERSION_STATE_ENABLED,
    (SECRET_VERSION_STATE_ENABLED, VersionEvent.STAGE): SECRET_VERSION_STATE_ENABLED,
    (SECRET_VERSION_STATE_ENABLED, VersionEvent.ENABLE): SECRET_VERSION_STATE_ENABLED,
    (SECRET_VERSION_STATE_ENABLED, VersionEvent.DISABLE): SECRET_VERSION_STATE_DISABLED,
    # The target goes on to accept a value that leaked, so the rotation that replaces it still needs it.
    (SECRET_VERSION_STATE_DISABLED, VersionEvent.ROTATE): SECRET_VERSION_STATE_DISABLED,
    (SECRET_VERSION_STATE_DISABLED, VersionEvent.ENABLE): SECRET_VERSION_STATE_ENABLED,
    (SECRET_VERSION_STATE_DISABLED, VersionEvent.DISABLE): SECRET_VERSION_STATE_DISABLED,
    (SECRET_VERSION_STATE_ENABLED, VersionEvent.DESTROY): SECRET_VERSION_STATE_DESTROYED,
    (SECRET_VERSION_STATE_DISABLED, VersionEvent.DESTROY): SECRET_VERSION_STATE_DESTROYED,
    (SECRET_VERSION_STATE_DESTROYED, VersionEvent.DESTROY): SECRET_VERSION_STATE_DESTROYED,
}


def next_state(secret: Secret, event: SecretEvent) -> SecretState.ValueType:
    """The state that an event leads a secret to. Raises SECRET_PENDING_DELETION, SECRET_NOT_FOUND once it is deleted,
    SECRET_STATE_INVALID for a restoration of what is not deleted."""
    return following(_NEXT_OF_SECRET, secret.state, event, lambda: _refused(secret, event))


def _refused(secret: Secret, event: SecretEvent) -> StrongroomError:
    if secret.state == SECRET_STATE_PENDING_DELETION:
        return StrongroomError(Reason.SECRET_PENDING_DELETION, f"{secret.name} waits for its deletion")
    if secret.state == SECRET_STATE_DELETED and event is not SecretEvent.RESTORE:
        return no_secret(secret.name)
    state = SecretState.Name(secret.state).removeprefix("SECRET_STATE_")
    return StrongroomError(
        Reason.SECRET_STATE_INVALID, f"{secret.name}, which is {state}, cannot be {event.value}", state=state
    )


def next_version_state(version: Version, event: VersionEvent) -> SecretVersionState.ValueType:
    """The state that an event leads a version to. Raises SECRET_VERSION_DISABLED, SECRET_VERSION_DESTROYED."""
    return following(_NEXT_OF_VERSION, version.state, event, lambda: _refused_version(version))


def _refused_version(version: Version) -> StrongroomError:
    if version.state == SECRET_VERSION_STATE_DESTROYED:
        return StrongroomError(Reason.SECRET_VERSION_DESTROYED, f"the value of {version.name} is destroyed")
    return StrongroomError(Reason.SECRET_VERSION_DISABLED, f"{version.name} is disabled")


def no_secret(name: ResourceName) -> StrongroomError:
    """There is no secret of this name."""
    return StrongroomError(Reason.SECRET_NOT_FOUND, f"there is no {name}", field="name")


def no_version(name: ResourceName) -> StrongroomError:
    """There is no version of this name."""
    return StrongroomError(Reason.SECRET_VERSION_NOT_FOUND, f"there is no {name}", field="name")
