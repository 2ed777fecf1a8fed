"""What keystore knows of keys, versions and aliases. Times are in microseconds since the Unix epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.runtime.authorization import Resource
from services.runtime.names import ResourceName
from strongroom.keystore.v1.key_pb2 import (
    KeyOrigin,
    KeySpec,
    KeyState,
    KeyUsage,
    KeyVersionOrigin,
    KeyVersionState,
    ProtectionLevel,
)


@dataclass(frozen=True, slots=True)
class Key:
    """A key, apart from its versions."""

    name: ResourceName
    uid: bytes
    spec: KeySpec.ValueType
    usage: KeyUsage.ValueType
    protection_level: ProtectionLevel.ValueType
    origin: KeyOrigin.ValueType
    state: KeyState.ValueType
    description: str
    tags: Mapping[str, str]
    deletion_protection: bool
    primary_version: int
    revision: int
    """That of its last change."""
    created_us: int
    updated_us: int
    rotated_us: int
    """When the newest version was made."""

    @property
    def resource(self) -> Resource:
        """What access policies see of it."""
        level = ProtectionLevel.Name(self.protection_level).removeprefix("PROTECTION_LEVEL_")
        return Resource("Key", str(self.name), self.name.account, self.revision, self.tags, {"protection_level": level})

    def version_name(self, version: int) -> ResourceName:
        """The name of one of its versions."""
        return ResourceName(self.name.account, self.name.collection, self.name.id, version)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a key."""

    uid: bytes
    """The key's."""
    version: int
    state: KeyVersionState.ValueType
    origin: KeyVersionOrigin.ValueType
    wrapped: bytes
    """The material, wrapped by crypto and bound to this version; empty without material."""
    public_key: bytes
    root_version: int
    created_us: int


@dataclass(frozen=True, slots=True)
class Alias:
    """A second name for a key."""

    name: ResourceName
    key: ResourceName
    key_uid: bytes
    description: str
    revision: int
    created_us: int
    updated_us: int

    @property
    def resource(self) -> Resource:
        """What access policies see of it."""
        return Resource("Alias", str(self.name), self.name.account, self.revision)


@dataclass(frozen=True, slots=True)
class Request:
    """A call with a request id that did its work."""

    account: str
    request_id: str
    digest: bytes
    resource: str
    """What it made, by name."""
    created_us: int
