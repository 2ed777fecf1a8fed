"""What is known of keys and their versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from strongroom.convert import enum_text, moment, span
from strongroom.keystore.v1 import key_pb2
from strongroom.transport import Answer


@dataclass(frozen=True, slots=True)
class Key:
    """A key's record; it holds no key material.

    `uid` is 16 bytes, which ciphertexts carry. `spec` is such as `AES_256`, `usage` such as `ENCRYPT_DECRYPT`,
    `protection_level` SOFTWARE or HSM, `origin` STRONGROOM or EXTERNAL, `state` such as `ENABLED`. `event_id` is the
    id of the audit event of the call that answered it; it is empty in lists.
    """

    name: str
    uid: bytes
    spec: str
    usage: str
    protection_level: str
    origin: str
    state: str
    description: str
    tags: Mapping[str, str]
    deletion_protection: bool
    primary_version: int
    create_time: datetime | None
    update_time: datetime | None
    rotation_period: timedelta | None
    next_rotate_time: datetime | None
    delete_time: datetime | None
    destroy_time: datetime | None
    expire_time: datetime | None
    etag: str
    event_id: str = ""
    last_rotate_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """One version of a key, by its full name.

    `public_key_sha256` is empty for symmetric keys. `event_id` is the id of the audit event of the call that answered
    it; it is empty in lists.
    """

    name: str
    state: str
    primary: bool
    origin: str
    public_key_sha256: bytes
    root_version: int
    message_count: int
    create_time: datetime | None
    import_time: datetime | None
    expire_time: datetime | None
    retire_time: datetime | None
    destroy_time: datetime | None
    event_id: str = ""


def answered_key(answer: Answer[key_pb2.Key]) -> Key:
    """The key that a call answered."""
    return key_of(answer.response, answer.event_id)


def key_of(key: key_pb2.Key, event_id: str = "") -> Key:
    """A key from the contract's message."""
    return Key(
        name=key.name,
        uid=key.uid,
        spec=enum_text(key_pb2.KeySpec, "KEY_SPEC_", key.spec),
        usage=enum_text(key_pb2.KeyUsage, "KEY_USAGE_", key.usage),
        protection_level=enum_text(key_pb2.ProtectionLevel, "PROTECTION_LEVEL_", key.protection_level),
        origin=enum_text(key_pb2.KeyOrigin, "KEY_ORIGIN_", key.origin),
        state=enum_text(key_pb2.KeyState, "KEY_STATE_", key.state),
        description=key.description,
        tags=dict(key.tags),
        deletion_protection=key.deletion_protection,
        primary_version=key.primary_version,
        create_time=moment(key.create_time),
        update_time=moment(key.update_time),
        rotation_period=span(key.rotation_policy.period) if key.HasField("rotation_policy") else None,
        next_rotate_time=moment(key.next_rotate_time),
        delete_time=moment(key.delete_time),
        destroy_time=moment(key.destroy_time),
        expire_time=moment(key.expire_time),
        etag=key.etag,
        event_id=event_id,
        last_rotate_time=moment(key.last_rotate_time),
    )


def answered_version(answer: Answer[key_pb2.KeyVersion]) -> KeyVersion:
    """The version that a call answered."""
    return version_of(answer.response, answer.event_id)


def version_of(version: key_pb2.KeyVersion, event_id: str = "") -> KeyVersion:
    """A version from the contract's message."""
    return KeyVersion(
        name=version.name,
        state=enum_text(key_pb2.KeyVersionState, "KEY_VERSION_STATE_", version.state),
        primary=version.primary,
        origin=enum_text(key_pb2.KeyVersionOrigin, "KEY_VERSION_ORIGIN_", version.origin),
        public_key_sha256=version.public_key_sha256,
        root_version=version.root_version,
        message_count=version.message_count,
        create_time=moment(version.create_time),
        import_time=moment(version.import_time),
        expire_time=moment(version.expire_time),
        retire_time=moment(version.retire_time),
        destroy_time=moment(version.destroy_time),
        event_id=event_id,
    )
