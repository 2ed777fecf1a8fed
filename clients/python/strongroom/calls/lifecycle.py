"""The steps of a key's life, and its versions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from strongroom.calls.base import new_request_id, pages
from strongroom.calls.keys import Key, KeyCalls, answered_key
from strongroom.convert import enum_text, moment
from strongroom.keystore.v1 import key_pb2
from strongroom.keystore.v1 import key_service_pb2 as pb
from strongroom.transport import Answer


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """One version of a key. `public_key_sha256` is empty for symmetric keys; `event_id` as in Key."""

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


class LifecycleCalls(KeyCalls):
    """Methods that change keys and their versions. `key` is as for `get_key`; `version` is `payments/versions/2`, or a
    full name. All but the lists raise KEY_STATE_INVALID where the state does not allow it."""

    def update_key(self, key: str, description: str, *, etag: str = "", timeout: float | None = None) -> Key:
        """Gives a key another description; with an etag, only if it is still current: ETAG_MISMATCH."""
        request = pb.UpdateKeyRequest(
            key=key_pb2.Key(name=self.names.key(key), description=description, etag=etag),
            update_mask=FieldMask(paths=["description"]),
        )
        return answered_key(self._keystore.call(self._keystore.stub.UpdateKey, request, timeout))

    def tag_key(self, key: str, tags: Mapping[str, str], *, timeout: float | None = None) -> Key:
        """Adds tags, and replaces those of the same keys. Raises LIMIT_EXCEEDED beyond 50."""
        request = pb.TagKeyRequest(name=self.names.key(key), tags=tags)
        return answered_key(self._keystore.call(self._keystore.stub.TagKey, request, timeout))

    def untag_key(self, key: str, tag_keys: Iterable[str], *, timeout: float | None = None) -> Key:
        """Removes tags, as far as they are there."""
        request = pb.UntagKeyRequest(name=self.names.key(key), tag_keys=tag_keys)
        return answered_key(self._keystore.call(self._keystore.stub.UntagKey, request, timeout))

    def set_deletion_protection(
        self, key: str, *, protected: bool, comment: str = "", timeout: float | None = None
    ) -> Key:
        """Turns deletion protection on or off. The comment, up to 256 characters, is in the audit event."""
        request = pb.SetDeletionProtectionRequest(
            name=self.names.key(key), deletion_protection=protected, comment=comment
        )
        return answered_key(self._keystore.call(self._keystore.stub.SetDeletionProtection, request, timeout))

    def schedule_key_deletion(
        self, key: str, window: timedelta = timedelta(days=30), *, timeout: float | None = None
    ) -> Key:
        """Stops every use now, and destroys the material when the window of 7 to 366 days is over. Raises
        DELETION_PROTECTED."""
        request = pb.ScheduleKeyDeletionRequest(name=self.names.key(key), pending_window=_duration(window))
        return answered_key(self._keystore.call(self._keystore.stub.ScheduleKeyDeletion, request, timeout))

    def cancel_key_deletion(self, key: str, *, timeout: float | None = None) -> Key:
        """Takes a planned deletion back; the key is DISABLED then."""
        request = pb.CancelKeyDeletionRequest(name=self.names.key(key))
        return answered_key(self._keystore.call(self._keystore.stub.CancelKeyDeletion, request, timeout))

    def update_rotation_policy(self, key: str, period: timedelta | None, *, timeout: float | None = None) -> Key:
        """Has a new version made every 7 to 730 days, or with None never. Raises FIELD_INVALID for keys other than AES
        and SM4."""
        policy = key_pb2.RotationPolicy(period=_duration(period)) if period is not None else None
        request = pb.UpdateRotationPolicyRequest(name=self.names.key(key), rotation_policy=policy)
        return answered_key(self._keystore.call(self._keystore.stub.UpdateRotationPolicy, request, timeout))

    def create_key_version(self, key: str, *, timeout: float | None = None) -> KeyVersion:
        """Rotates a key now: the new version is primary, old ones still decrypt and verify. Raises KEY_DISABLED."""
        request = pb.CreateKeyVersionRequest(parent=self.names.key(key), request_id=new_request_id())
        return answered_version(self._keystore.call(self._keystore.stub.CreateKeyVersion, request, timeout))

    def list_key_versions(
        self, key: str, *, limit: int | None = None, timeout: float | None = None
    ) -> Iterator[KeyVersion]:
        """A key's versions, newest first, page by page."""
        parent = self.names.key(key)

        def fetch(token: str, size: int) -> tuple[Iterable[KeyVersion], str]:
            request = pb.ListKeyVersionsRequest(parent=parent, page_size=size, page_token=token)
            page = self._keystore.call(self._keystore.stub.ListKeyVersions, request, timeout).response
            return map(_version, page.key_versions), page.next_page_token

        return pages(fetch, limit)

    def get_key_version(self, version: str, *, timeout: float | None = None) -> KeyVersion:
        """One version. Raises KEY_VERSION_NOT_FOUND."""
        request = pb.GetKeyVersionRequest(name=self.names.key_or_version(version, "version"))
        return answered_version(self._keystore.call(self._keystore.stub.GetKeyVersion, request, timeout))

    def enable_key_version(self, version: str, *, timeout: float | None = None) -> KeyVersion:
        """Lets a disabled version be used again."""
        request = pb.EnableKeyVersionRequest(name=self.names.key_or_version(version, "version"))
        return answered_version(self._keystore.call(self._keystore.stub.EnableKeyVersion, request, timeout))

    def disable_key_version(self, version: str, *, timeout: float | None = None) -> KeyVersion:
        """Stops every use of a version other than the primary one, within one second."""
        request = pb.DisableKeyVersionRequest(name=self.names.key_or_version(version, "version"))
        return answered_version(self._keystore.call(self._keystore.stub.DisableKeyVersion, request, timeout))

    def destroy_key_version(self, version: str, *, timeout: float | None = None) -> KeyVersion:
        """Destroys a disabled version's material for good: what it encrypted is lost. Raises DELETION_PROTECTED."""
        request = pb.DestroyKeyVersionRequest(name=self.names.key_or_version(version, "version"))
        return answered_version(self._keystore.call(self._keystore.stub.DestroyKeyVersion, request, timeout))

    def set_primary_key_version(self, version: str, *, timeout: float | None = None) -> Key:
        """Chooses the version that encrypts, signs and makes MACs."""
        request = pb.SetPrimaryKeyVersionRequest(name=self.names.key_or_version(version, "version"))
        return answered_key(self._keystore.call(self._keystore.stub.SetPrimaryKeyVersion, request, timeout))


def _duration(value: timedelta) -> Duration:
    duration = Duration()
    duration.FromTimedelta(value)
    return duration


def answered_version(answer: Answer[key_pb2.KeyVersion]) -> KeyVersion:
    """The version that a call answered."""
    return _version(answer.response, answer.event_id)


def _version(version: key_pb2.KeyVersion, event_id: str = "") -> KeyVersion:
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
