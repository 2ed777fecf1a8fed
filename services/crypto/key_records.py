"""Keystore's key records as this worker caches them, and the material opened from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc

from services.crypto import material
from services.crypto.algorithms import ALGORITHMS
from services.crypto.blobs import Binding
from services.crypto.material import Opened
from services.crypto.message_limit import MessageLimit
from services.crypto.providers.provider import Provider
from services.runtime import clock
from services.runtime.authorization import Resource
from services.runtime.changes import ChangeFeed, FreshCache
from services.runtime.channels import MeshChannel
from services.runtime.decisions import ResourcePolicies
from services.runtime.errors import Reason, StrongroomError, from_rpc_error
from strongroom.access.v1.access_record_service_pb2 import PolicyRecord
from strongroom.crypto.v1.algorithm_pb2 import Algorithm
from strongroom.keystore.v1.key_pb2 import (
    KEY_STATE_ENABLED,
    KEY_VERSION_STATE_ENABLED,
    KeyState,
    KeyVersionState,
    ProtectionLevel,
)
from strongroom.keystore.v1.key_record_service_pb2 import (
    Change,
    ChangeKind,
    GetKeyRecordRequest,
    KeyRecord,
    KeyRecordResponse,
    VersionRecord,
)
from strongroom.keystore.v1.key_record_service_pb2_grpc import KeyRecordServiceStub

_TIMEOUT_SECONDS = 1.0
_NEVER = 1 << 63


class Key:
    """A key as of one revision: its record, what authorization needs of it, and its versions' material."""

    __slots__ = ("_expiries_ns", "_limit", "_opened", "_provider", "record", "resource", "version_names")

    def __init__(self, record: KeyRecord, policies: ResourcePolicies, provider: Provider, limit: MessageLimit) -> None:
        self.record = record
        self.resource = Resource(
            "Key",
            record.name,
            record.account,
            record.revision,
            dict(record.tags),
            {"protection_level": ProtectionLevel.Name(record.protection_level).removeprefix("PROTECTION_LEVEL_")},
            record.uid,
            policies,
        )
        self.version_names = {
            version.version: f"{record.name}/versions/{version.version}" for version in record.versions
        }
        self._provider = provider
        self._limit = limit
        self._opened: dict[int, Opened] = {}
        self._expiries_ns = {
            version.version: version.expire_time.ToNanoseconds()
            for version in record.versions
            if version.HasField("expire_time")
        }

    @property
    def algorithms(self) -> tuple[Algorithm.ValueType, ...]:
        """What it can be used with."""
        return ALGORITHMS[self.record.spec, self.record.usage]

    def require_enabled(self) -> None:
        """Raises KEY_DISABLED or KEY_STATE_INVALID unless the key may be used."""
        if self.record.state != KEY_STATE_ENABLED:
            state = KeyState.Name(self.record.state).removeprefix("KEY_STATE_")
            raise _unusable(state, f"key {self.record.name} is {state}")

    def material(self, version: int) -> Opened:
        """The material of one version. Raises KEY_DISABLED, KEY_STATE_INVALID, KEY_VERSION_NOT_FOUND, or
        KEY_MATERIAL_REFUSED when the stored blob is not this version's."""
        if self._expiries_ns and self._expiries_ns.get(version, _NEVER) <= clock.system_clock():
            raise _unusable("PENDING_IMPORT", f"the material of {self.version_names[version]} has expired")
        opened = self._opened.get(version)
        if opened is None:
            opened = self._opened[version] = self._open(version)
        return opened

    def spend_messages(self, version: int, count: int) -> None:
        """Counts messages before they are encrypted. Raises KEY_STATE_INVALID when the version has none left,
        KEYSTORE_UNREACHABLE."""
        self._limit.spend(self.record.uid, version, count)

    def version(self, number: int) -> VersionRecord:
        """The record of one version. Raises KEY_VERSION_NOT_FOUND."""
        for version in self.record.versions:
            if version.version == number:
                return version
        raise StrongroomError(Reason.KEY_VERSION_NOT_FOUND, f"key {self.record.name} has no version {number}")

    def _open(self, number: int) -> Opened:
        record, version = self.record, self.version(number)
        if version.state != KEY_VERSION_STATE_ENABLED:
            state = KeyVersionState.Name(version.state).removeprefix("KEY_VERSION_STATE_")
            raise _unusable(state, f"version {number} of key {record.name} is {state}")
        binding = Binding(
            record.account,
            record.name,
            record.uid,
            number,
            record.spec,
            record.usage,
            record.protection_level,
        )
        return material.open_blob(self._provider, binding, version.wrapped_material, version.public_key)


class KeyRecords:
    """Keys by name, alias and uid, read from keystore when they are not in the cache."""

    def __init__(
        self,
        keystore: MeshChannel,
        feed: ChangeFeed,
        provider: Provider,
        parsed_policies: Callable[[Sequence[PolicyRecord]], ResourcePolicies],
        capacity: int,
    ) -> None:
        self._get_key_record = keystore.method(KeyRecordServiceStub, "GetKeyRecord")
        self._provider = provider
        self._parsed_policies = parsed_policies
        self._limit = MessageLimit(keystore, capacity)
        self._keys: FreshCache[bytes, Key] = FreshCache(feed, capacity)
        self._uids: FreshCache[str, bytes] = FreshCache(feed, 2 * capacity)
        feed.listen(self._changed, self._forget_all)

    def by_name(self, name: str) -> Key:
        """The key of this name or alias. Raises KEY_NOT_FOUND."""
        fetched: list[tuple[Key, int]] = []

        def read_uid() -> tuple[bytes, int]:
            key, as_of_revision = self._read(GetKeyRecordRequest(name=name))
            fetched.append((key, as_of_revision))
            return key.record.uid, as_of_revision

        uid = self._uids.get(name, read_uid)
        return self._keys.get(uid, lambda: fetched[0] if fetched else self._read(GetKeyRecordRequest(uid=uid)))

    def by_uid(self, uid: bytes) -> Key:
        """The key of this uid. Raises KEY_NOT_FOUND."""
        return self._keys.get(uid, lambda: self._read(GetKeyRecordRequest(uid=uid)))

    def _read(self, request: GetKeyRecordRequest) -> tuple[Key, int]:
        try:
            response: KeyRecordResponse = self._get_key_record(request, timeout=_TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise from_rpc_error(error, Reason.KEYSTORE_UNREACHABLE, "keystore") from error
        record = response.record
        policies = self._parsed_policies(record.resource_policies)
        return Key(record, policies, self._provider, self._limit), response.as_of_revision

    def _changed(self, change: Change) -> None:
        if change.kind == ChangeKind.CHANGE_KIND_KEY:
            self._keys.drop(change.key_uid)
        elif change.kind == ChangeKind.CHANGE_KIND_ALIAS:
            self._uids.drop(change.resource)

    def _forget_all(self) -> None:
        self._keys.clear()
        self._uids.clear()


def _unusable(state: str, message: str) -> StrongroomError:
    reason = Reason.KEY_DISABLED if state == "DISABLED" else Reason.KEY_STATE_INVALID
    return StrongroomError(reason, message, state=state)
