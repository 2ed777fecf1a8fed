"""What the service knows of secrets and their versions, apart from any value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.runtime.access.authorization import Resource
from services.runtime.requests import names
from services.runtime.requests.names import ResourceName
from strongroom.secrets.v1.password_rule_pb2 import PasswordRule
from strongroom.secrets.v1.rotation_pb2 import (
    ROTATION_STATE_UNSPECIFIED,
    RotationPolicy,
    RotationState,
    RotationStep,
    RotationTrigger,
)
from strongroom.secrets.v1.secret_pb2 import (
    SecretState,
    SecretType,
    SecretVersionOrigin,
    SecretVersionState,
    TargetBinding,
    ValueFormat,
)
from strongroom.secrets.v1.target_pb2 import RotationTarget

CURRENT = "Current"
PREVIOUS = "Previous"
PENDING = "Pending"

DEFAULT_GRACE_SECONDS = 3600
DEFAULT_MAX_ATTEMPTS = 10
DEFAULT_CLIENT_KEY_SECONDS = 90 * 86_400


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret. Times are in microseconds since the Unix epoch."""

    name: ResourceName
    type: SecretType.ValueType
    state: SecretState.ValueType
    key: str
    """The key that new versions' data keys are encrypted under, by name or alias."""
    description: str
    tags: Mapping[str, str]
    retained_versions: int
    latest_version: int
    """The highest version number given so far; 0 before the first value."""
    revision: int
    """Grows by one with every change."""
    created_us: int
    updated_us: int
    stages: Mapping[str, int]
    """The version at each stage."""
    delete_us: int | None = None
    """When its values will be destroyed; set while it waits for that alone."""
    target: RotationTarget | None = None
    password_rule: PasswordRule | None = None
    rotation_policy: RotationPolicy | None = None
    grace_period_s: int = DEFAULT_GRACE_SECONDS
    rotation_count: int = 0
    """The highest rotation number given so far."""
    active_rotation: int = 0
    """The number of the rotation that is not ended; 0 without one."""
    active_rotation_state: RotationState.ValueType = ROTATION_STATE_UNSPECIFIED
    next_rotate_us: int | None = None
    last_rotate_us: int | None = None
    standing: Mapping[int, int] = field(default_factory=dict)
    """The versions that have a value, and the revision that each one is at."""
    allowed_destinations: tuple[str, ...] = ()
    """Where its values may be sent; empty for anywhere (services/secrets/core/destinations.py)."""
    target_binding: TargetBinding | None = None
    """Who named the target."""
    lent: bool = False
    """Whether it is, or was, the master of another."""

    @property
    def master(self) -> ResourceName | None:
        """The target's master secret, if it has one."""
        kind = self.target.WhichOneof("kind") if self.target is not None else None
        given: str = getattr(getattr(self.target, kind), "master_secret", "") if kind else ""
        return names.parse(given, "master_secret", "secrets") if given else None

    @property
    def principal(self) -> str:
        """Whose client key rotates, by name; empty for other targets."""
        return self.target.client_key.principal if self.target is not None else ""

    @property
    def client_key_lifetime_s(self) -> int:
        """How long each client key is valid, in seconds."""
        given = self.target.client_key.client_key_lifetime.seconds if self.target is not None else 0
        return given or DEFAULT_CLIENT_KEY_SECONDS

    @property
    def resource(self) -> Resource:
        """What access policies see of it."""
        return Resource("Secret", str(self.name), self.name.account, self.revision, self.tags)

    def version_name(self, version: int) -> ResourceName:
        """The name of one of its versions."""
        return ResourceName(self.name.account, self.name.collection, self.name.id, version)

    def stages_of(self, version: int) -> list[str]:
        """The stages that a version is at, by name."""
        return sorted(stage for stage, at in self.stages.items() if at == version)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a secret. Times are in microseconds since the Unix epoch."""

    name: ResourceName
    state: SecretVersionState.ValueType
    origin: SecretVersionOrigin.ValueType
    key_version: str
    """Full name of the key version that its data key is under."""
    format: ValueFormat.ValueType
    value_size: int
    created_us: int
    disabled_us: int | None = None
    destroyed_us: int | None = None
    revision: int = 1
    """Grows by one with every change."""


@dataclass(frozen=True, slots=True)
class SealedVersion:
    """A version with its value as the database keeps it: both parts are empty once the value is destroyed."""

    version: Version
    data_key: bytes
    """The data key, encrypted by crypto under `version.key_version`."""
    sealed: bytes
    """The value, sealed under the data key (services/secrets/values/values.py)."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """One rotation of a secret. Times are in microseconds since the Unix epoch; versions 0 where there is none."""

    secret: ResourceName
    number: int
    state: RotationState.ValueType
    step: RotationStep.ValueType
    trigger: RotationTrigger.ValueType
    requester: str
    version: int
    """The version that it makes."""
    previous_version: int
    """The version that was Current when it began."""
    max_attempts: int
    attempt_count: int
    failures: int
    """Tries of the step that failed and count, since it began or was resumed."""
    incurable_failures: int
    """Those among them that no later try would cure."""
    fencing_token: int
    due_us: int
    started_us: int
    next_attempt_us: int | None
    """When it is worked on next; None when it waits for a person or is ended."""
    promoted_us: int | None = None
    """When Current moved to `version`."""
    ended_us: int | None = None

    @property
    def name(self) -> str:
        """Its full name."""
        return f"{self.secret}/rotations/{self.number}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one step of a rotation."""

    ordinal: int
    """Counted from 1 through the whole rotation."""
    step: RotationStep.ValueType
    number: int
    """Counted from 1 in the step."""
    started_us: int
    ended_us: int | None
    error_reason: str
    error_detail: str
    instance: str
    fencing_token: int
    trace_id: str
