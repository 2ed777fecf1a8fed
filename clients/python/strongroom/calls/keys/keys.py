"""Keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Self

from google.protobuf.field_mask_pb2 import FieldMask

from strongroom.calls.base import Part, new_request_id, pages
from strongroom.calls.keys.records import Key, KeyVersion, answered_key, answered_version, key_of
from strongroom.convert import duration, enum_number
from strongroom.keystore.v1 import key_pb2
from strongroom.keystore.v1 import key_service_pb2 as pb
from strongroom.keystore.v1.key_service_pb2_grpc import KeyServiceStub
from strongroom.names import Names
from strongroom.transport import Transport

if TYPE_CHECKING:
    from strongroom.calls.keys.aliases import Aliases
    from strongroom.calls.keys.material import KeyMaterial
    from strongroom.calls.keys.versions import KeyVersions


class Keys(Part[KeyServiceStub]):
    """Makes keys and changes them. `key` is an id (`payments`), `alias/{alias}`, or a full name."""

    @classmethod
    def of(cls, transport: Transport, names: Names) -> Self:
        """The keys of the mesh that `transport` connects to."""
        return cls(transport.endpoint("keystore", KeyServiceStub), names)

    @cached_property
    def versions(self) -> KeyVersions:
        """The versions of keys."""
        from strongroom.calls.keys.versions import KeyVersions

        return KeyVersions(self._service, self._names)

    @cached_property
    def aliases(self) -> Aliases:
        """Second names of keys."""
        from strongroom.calls.keys.aliases import Aliases

        return Aliases(self._service, self._names)

    @cached_property
    def material(self) -> KeyMaterial:
        """Material that its owner brings, for keys of origin EXTERNAL."""
        from strongroom.calls.keys.material import KeyMaterial

        return KeyMaterial(self._service, self._names)

    def create(
        self,
        key_id: str = "",
        *,
        spec: str = "AES_256",
        usage: str = "",
        protection_level: str = "",
        origin: str = "",
        description: str = "",
        tags: Mapping[str, str] | None = None,
        deletion_protection: bool = False,
        rotation_period: timedelta | None = None,
        timeout: float | None = None,
    ) -> Key:
        """Makes a key and its first version. Without `key_id` (`[a-z][a-z0-9-]{0,62}`) it gets a random one.

        `usage` defaults to the only one that the spec allows, `protection_level` to SOFTWARE; with the `origin`
        EXTERNAL the key waits for material that you import. With a `rotation_period`, 7 to 730 days, a new version is
        made as often. Raises ALREADY_EXISTS, also for the id of a key that was deleted; UNSUPPORTED_IN_HSM;
        KEY_USAGE_INVALID.
        """
        key = key_pb2.Key(
            spec=enum_number(key_pb2.KeySpec, "KEY_SPEC_", spec, "spec"),
            usage=enum_number(key_pb2.KeyUsage, "KEY_USAGE_", usage, "usage"),
            protection_level=enum_number(
                key_pb2.ProtectionLevel, "PROTECTION_LEVEL_", protection_level, "protection_level"
            ),
            origin=enum_number(key_pb2.KeyOrigin, "KEY_ORIGIN_", origin, "origin"),
            description=description,
            tags=tags or {},
            deletion_protection=deletion_protection,
        )
        if rotation_period is not None:
            key.rotation_policy.period.FromTimedelta(rotation_period)
        request = pb.CreateKeyRequest(
            parent=self._names.account,
            key_id=self._names.id("keys", key_id),
            key=key,
            request_id=new_request_id(),
        )
        return answered_key(self._service.call(self._service.stub.CreateKey, request, timeout))

    def get(self, key: str, *, timeout: float | None = None) -> Key:
        """Answers a key, in whatever state. Raises KEY_NOT_FOUND or ALIAS_NOT_FOUND."""
        request = pb.GetKeyRequest(name=self._names.key(key))
        return answered_key(self._service.call(self._service.stub.GetKey, request, timeout))

    def list(
        self,
        filter: str = "",  # noqa: A002  # the name in the contract
        *,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Key]:
        """Lists the account's keys by name.

        `filter` is such as `state = ENABLED AND tags.team = "payments"`. Pages are fetched as they are needed, `limit`
        items at most; `timeout` is for each page.
        """

        def fetch(token: str, size: int) -> tuple[list[Key], str]:
            request = pb.ListKeysRequest(parent=self._names.account, page_size=size, page_token=token, filter=filter)
            answer = self._service.call(self._service.stub.ListKeys, request, timeout).response
            return [key_of(key) for key in answer.keys], answer.next_page_token

        return pages(fetch, limit)

    def enable(self, key: str, *, timeout: float | None = None) -> Key:
        """Lets a disabled key be used again. Raises KEY_STATE_INVALID from states other than DISABLED and ENABLED."""
        request = pb.EnableKeyRequest(name=self._names.key(key))
        return answered_key(self._service.call(self._service.stub.EnableKey, request, timeout))

    def disable(self, key: str, *, timeout: float | None = None) -> Key:
        """Stops every use of a key within one second.

        Raises KEY_STATE_INVALID from states other than ENABLED and DISABLED.
        """
        request = pb.DisableKeyRequest(name=self._names.key(key))
        return answered_key(self._service.call(self._service.stub.DisableKey, request, timeout))

    def update(self, key: str, description: str, *, etag: str = "", timeout: float | None = None) -> Key:
        """Gives a key another description. With an `etag`, only if that is still current: ETAG_MISMATCH."""
        request = pb.UpdateKeyRequest(
            key=key_pb2.Key(name=self._names.key(key), description=description, etag=etag),
            update_mask=FieldMask(paths=["description"]),
        )
        return answered_key(self._service.call(self._service.stub.UpdateKey, request, timeout))

    def tag(self, key: str, tags: Mapping[str, str], *, timeout: float | None = None) -> Key:
        """Adds tags to a key, and replaces those of the same names. Raises LIMIT_EXCEEDED beyond 50."""
        request = pb.TagKeyRequest(name=self._names.key(key), tags=tags)
        return answered_key(self._service.call(self._service.stub.TagKey, request, timeout))

    def untag(self, key: str, tag_keys: Iterable[str], *, timeout: float | None = None) -> Key:
        """Removes tags from a key, as far as they are there."""
        request = pb.UntagKeyRequest(name=self._names.key(key), tag_keys=tag_keys)
        return answered_key(self._service.call(self._service.stub.UntagKey, request, timeout))

    def set_deletion_protection(
        self, key: str, *, protected: bool, comment: str = "", timeout: float | None = None
    ) -> Key:
        """Turns deletion protection on or off. The comment, up to 256 characters, is in the audit event."""
        request = pb.SetDeletionProtectionRequest(
            name=self._names.key(key), deletion_protection=protected, comment=comment
        )
        return answered_key(self._service.call(self._service.stub.SetDeletionProtection, request, timeout))

    def schedule_deletion(
        self, key: str, window: timedelta = timedelta(days=30), *, timeout: float | None = None
    ) -> Key:
        """Stops every use of a key now, and destroys its material when the window is over.

        The window is 7 to 366 days. Raises DELETION_PROTECTED, KEY_STATE_INVALID.
        """
        request = pb.ScheduleKeyDeletionRequest(name=self._names.key(key), pending_window=duration(window))
        return answered_key(self._service.call(self._service.stub.ScheduleKeyDeletion, request, timeout))

    def cancel_deletion(self, key: str, *, timeout: float | None = None) -> Key:
        """Takes a planned deletion back; the key is DISABLED then. Raises KEY_STATE_INVALID."""
        request = pb.CancelKeyDeletionRequest(name=self._names.key(key))
        return answered_key(self._service.call(self._service.stub.CancelKeyDeletion, request, timeout))

    def update_rotation_policy(self, key: str, period: timedelta | None, *, timeout: float | None = None) -> Key:
        """Has a new version made every 7 to 730 days, or with None never.

        Raises FIELD_INVALID for keys other than AES and SM4.
        """
        policy = key_pb2.RotationPolicy(period=duration(period)) if period is not None else None
        request = pb.UpdateRotationPolicyRequest(name=self._names.key(key), rotation_policy=policy)
        return answered_key(self._service.call(self._service.stub.UpdateRotationPolicy, request, timeout))

    def rotate(self, key: str, *, timeout: float | None = None) -> KeyVersion:
        """Rotates a key now: the new version is primary, old ones still decrypt and verify. Raises KEY_DISABLED."""
        request = pb.CreateKeyVersionRequest(parent=self._names.key(key), request_id=new_request_id())
        return answered_version(self._service.call(self._service.stub.CreateKeyVersion, request, timeout))
