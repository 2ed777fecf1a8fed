"""Keys and aliases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from google.protobuf.field_mask_pb2 import FieldMask

from strongroom.calls.base import Calls, new_request_id, pages
from strongroom.convert import enum_number, enum_text, moment
from strongroom.keystore.v1 import key_pb2
from strongroom.keystore.v1 import key_service_pb2 as pb
from strongroom.keystore.v1.key_service_pb2_grpc import KeyServiceStub
from strongroom.transport import Answer, Endpoint


@dataclass(frozen=True, slots=True)
class Key:
    """A key's record; it holds no key material.

    `uid` is 16 bytes, what ciphertexts carry. `spec`, `usage`, `protection_level`, `origin` and `state` are
    the contract's enum values without their prefix: `AES_256`, `ENCRYPT_DECRYPT`, `SOFTWARE`, `STRONGROOM`,
    `ENABLED`. `event_id` is the audit event of the call that answered the key; empty in lists.
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


@dataclass(frozen=True, slots=True)
class Alias:
    """A second name for the key `key`. `event_id` as in Key."""

    name: str
    key: str
    description: str
    create_time: datetime | None
    update_time: datetime | None
    etag: str
    event_id: str = field(default="")


class KeyCalls(Calls):
    """Methods that keep keys. `key` is an id (`payments`), `alias/{alias}`, or a full name.

    Each takes `timeout` in seconds and raises StrongroomError; the contract names the reasons
    (`protos/strongroom/keystore/v1/key_service.proto`).
    """

    @cached_property
    def _keystore(self) -> Endpoint[KeyServiceStub]:
        return self._transport.endpoint("keystore", KeyServiceStub)

    def create_key(
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
        EXTERNAL the key waits for material that you import. Raises
        ALREADY_EXISTS, also for the id of a key that was deleted; UNSUPPORTED_IN_HSM; KEY_USAGE_INVALID.
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
        request = pb.CreateKeyRequest(parent=self.names.account, key_id=key_id, key=key, request_id=new_request_id())
        return answered_key(self._keystore.call(self._keystore.stub.CreateKey, request, timeout))

    def get_key(self, key: str, *, timeout: float | None = None) -> Key:
        """The key, in whatever state. Raises KEY_NOT_FOUND or ALIAS_NOT_FOUND."""
        request = pb.GetKeyRequest(name=self.names.key(key))
        return answered_key(self._keystore.call(self._keystore.stub.GetKey, request, timeout))

    def list_keys(
        self,
        filter: str = "",  # noqa: A002  # the name in the contract
        *,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Key]:
        """The account's keys by name; pages are fetched as they are needed. `timeout` is for each page.

        `filter` is as in the contract: `state = ENABLED AND tags.team = "payments"`.
        """

        def fetch(token: str, size: int) -> tuple[list[Key], str]:
            request = pb.ListKeysRequest(parent=self.names.account, page_size=size, page_token=token, filter=filter)
            answer = self._keystore.call(self._keystore.stub.ListKeys, request, timeout).response
            return [_key(key) for key in answer.keys], answer.next_page_token

        return pages(fetch, limit)

    def enable_key(self, key: str, *, timeout: float | None = None) -> Key:
        """Lets a disabled key be used again. Raises KEY_STATE_INVALID from states other than DISABLED and
        ENABLED.
        """
        request = pb.EnableKeyRequest(name=self.names.key(key))
        return answered_key(self._keystore.call(self._keystore.stub.EnableKey, request, timeout))

    def disable_key(self, key: str, *, timeout: float | None = None) -> Key:
        """Stops every use of a key within one second. Raises KEY_STATE_INVALID as `enable_key` does."""
        request = pb.DisableKeyRequest(name=self.names.key(key))
        return answered_key(self._keystore.call(self._keystore.stub.DisableKey, request, timeout))

    def create_alias(self, alias_id: str, key: str, *, description: str = "", timeout: float | None = None) -> Alias:
        """Makes an alias for a key (not for another alias). Raises ALREADY_EXISTS, KEY_NOT_FOUND,
        LIMIT_EXCEEDED.
        """
        request = pb.CreateAliasRequest(
            parent=self.names.account,
            alias_id=alias_id.removeprefix("alias/"),
            alias=key_pb2.Alias(key=self.names.key(key), description=description),
            request_id=new_request_id(),
        )
        return _answered_alias(self._keystore.call(self._keystore.stub.CreateAlias, request, timeout))

    def get_alias(self, alias: str, *, timeout: float | None = None) -> Alias:
        """The alias. Raises ALIAS_NOT_FOUND."""
        request = pb.GetAliasRequest(name=self.names.alias(alias))
        return _answered_alias(self._keystore.call(self._keystore.stub.GetAlias, request, timeout))

    def list_aliases(
        self,
        filter: str = "",  # noqa: A002  # the name in the contract
        *,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Alias]:
        """The account's aliases by name, as `list_keys` does; `filter` may ask for `key` and `id_prefix`."""

        def fetch(token: str, size: int) -> tuple[list[Alias], str]:
            request = pb.ListAliasesRequest(parent=self.names.account, page_size=size, page_token=token, filter=filter)
            answer = self._keystore.call(self._keystore.stub.ListAliases, request, timeout).response
            return [_alias(alias) for alias in answer.aliases], answer.next_page_token

        return pages(fetch, limit)

    def move_alias(self, alias: str, key: str, *, timeout: float | None = None) -> Alias:
        """Makes the alias stand for another key, in one step. Raises ALIAS_NOT_FOUND, FIELD_INVALID."""
        request = pb.UpdateAliasRequest(
            alias=key_pb2.Alias(name=self.names.alias(alias), key=self.names.key(key)),
            update_mask=FieldMask(paths=["key"]),
        )
        return _answered_alias(self._keystore.call(self._keystore.stub.UpdateAlias, request, timeout))

    def delete_alias(self, alias: str, *, timeout: float | None = None) -> str:
        """Deletes the alias, and nothing of its key; answers the event id. Raises ALIAS_NOT_FOUND."""
        request = pb.DeleteAliasRequest(name=self.names.alias(alias))
        return self._keystore.call(self._keystore.stub.DeleteAlias, request, timeout).event_id


def answered_key(answer: Answer[key_pb2.Key]) -> Key:
    """The key that a call answered."""
    return _key(answer.response, answer.event_id)


def _key(key: key_pb2.Key, event_id: str = "") -> Key:
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
        rotation_period=key.rotation_policy.period.ToTimedelta() if key.HasField("rotation_policy") else None,
        next_rotate_time=moment(key.next_rotate_time),
        delete_time=moment(key.delete_time),
        destroy_time=moment(key.destroy_time),
        expire_time=moment(key.expire_time),
        etag=key.etag,
        event_id=event_id,
    )


def _answered_alias(answer: Answer[key_pb2.Alias]) -> Alias:
    return _alias(answer.response, answer.event_id)


def _alias(alias: key_pb2.Alias, event_id: str = "") -> Alias:
    return Alias(
        name=alias.name,
        key=alias.key,
        description=alias.description,
        create_time=moment(alias.create_time),
        update_time=moment(alias.update_time),
        etag=alias.etag,
        event_id=event_id,
    )
