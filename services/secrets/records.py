"""What the service knows of secrets and their versions, apart from any value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.runtime.authorization import Resource
from services.runtime.names import ResourceName
from strongroom.secrets.v1.secret_pb2 import (
    SecretState,
    SecretType,
    SecretVersionOrigin,
    SecretVersionState,
    ValueFormat,
)

CURRENT = "Current"
PREVIOUS = "Previous"
PENDING = "Pending"


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


@dataclass(frozen=True, slots=True)
class SealedVersion:
    """A version with its value as the database keeps it: both parts are empty once the value is destroyed."""

    version: Version
    data_key: bytes
    """The data key, encrypted by crypto under `version.key_version`."""
    sealed: bytes
    """The value, sealed under the data key (services/secrets/values.py)."""


@dataclass(frozen=True, slots=True)
class Request:
    """A call with a request id that did its work: what it asked for, and what came of it."""

    account: str
    request_id: str
    digest: bytes
    """SHA-256 of the request without its value."""
    secret_id: str
    version: int
    """The version that it made; 0 for none."""
    created_us: int
