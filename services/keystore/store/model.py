"""What keystore knows of keys, versions and aliases. Times are in microseconds since the Unix epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from services.runtime.access.authorization import Resource
from services.runtime.requests.names import ResourceName
from strongroom.keystore.v1.key_pb2 import (
    KEY_STATE_ENABLED,
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
    rotation_period_s: int | None = None
    """From one version to the next; None without a rotation policy."""
    delete_us: int | None = None
    """When the material will be destroyed, in PENDING_DELETION."""
    destroyed_us: int | None = None
    expires_us: int | None = None
    """When the primary version's imported material expires."""

    @property
    def resource(self) -> Resource:
        """What access policies see of it."""
        level = ProtectionLevel.Name(self.protection_level).removeprefix("PROTECTION_LEVEL_")
        attributes = {"protection_level": level}
        return Resource("Key", str(self.name), self.name.account, self.revision, self.tags, attributes, self.uid)

    @property
    def next_rotate_us(self) -> int | None:
        """When the rotation policy makes the next version; None without a policy, and unless ENABLED."""
        if self.rotation_period_s is None or self.state != KEY_STATE_ENABLED:
            return None
        return self.rotated_us + self.rotation_period_s * 1_000_000

    def rotation_is_due(self, by_us: int) -> bool:
        """Whether the policy makes the next version by then."""
        return self.next_rotate_us is not None and self.next_rotate_us <= by_us

    def with_primary(self, version: Version) -> Key:
        """The key with this version, as it is now, for its primary one."""
        return replace(self, primary_version=version.version, expires_us=version.expires_us)

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
    destroyed_us: int | None = None
    """When the material was destroyed, or will be in PENDING_DESTRUCTION."""
    imported_us: int | None = None
    expires_us: int | None = None
    """When its imported material expires."""
    fingerprint: bytes = b""
    """What recognises the material that was imported first, once there was any."""
    message_count: int = 0
    """Messages that workers have reserved, of a key whose messages are counted."""
    retired_us: int | None = None
    """When they reached their limit."""

    def without_material(self, state: KeyVersionState.ValueType) -> Version:
        """The version without its material, which can be imported again."""
        return replace(self, state=state, wrapped=b"", root_version=0, expires_us=None)

    def destroyed(self, state: KeyVersionState.ValueType, now_us: int) -> Version:
        """The version without its material, for good."""
        return replace(self.without_material(state), destroyed_us=now_us)


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
