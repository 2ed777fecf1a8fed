"""Keystore's key records as this worker caches them, and the material opened from them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex
from types import MappingProxyType

from services.crypto.blobs import Binding
from services.crypto.keys import material
from services.crypto.keys.material import Opened
from services.crypto.keys.message_limit import MessageLimit
from services.crypto.primitives.algorithms import ALGORITHMS
from services.crypto.provider import Provider
from services.runtime import clock
from services.runtime.access.authorization import Resource
from services.runtime.access.decisions import ResourcePolicies
from services.runtime.changes import Change, ChangeFeed, FreshCache
from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.channels import KEYSTORE, MeshChannel
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
    ChangeKind,
    GetKeyRecordRequest,
    KeyRecord,
    KeyRecordResponse,
    VersionRecord,
)
from strongroom.keystore.v1.key_record_service_pb2_grpc import KeyRecordServiceStub

_TIMEOUT_SECONDS = 1.0
_NO_TAGS: Mapping[str, str] = MappingProxyType({})
_ATTRIBUTES = {
    number: {"protection_level": name.removeprefix("PROTECTION_LEVEL_")} for name, number in ProtectionLevel.items()
}


class Version:
    """One version of a key, and its material once it was used."""

    __slots__ = ("expires_us", "number", "opened", "public_key", "state", "wrapped")

    def __init__(self, record: VersionRecord) -> None:
        self.number = record.version
        self.state = record.state
        self.wrapped = record.wrapped_material
        self.public_key = record.public_key
        """SubjectPublicKeyInfo in DER; for X-Wing the raw key, empty for symmetric keys."""
        self.expires_us = clock.microseconds(record.expire_time) if record.HasField("expire_time") else None
        self.opened: Opened | None = None


class Key:
    """A key as of one revision: what authorization needs of it, and its versions with their material.

    A worker keeps a hundred thousand of these (`bench keystore`), hence no protobuf message: one is larger than all
    that is taken from it.
    """

    __slots__ = (
        "_limit",
        "_provider",
        "_versions",
        "level",
        "primary_version",
        "resource",
        "spec",
        "state",
        "uid",
        "usage",
    )

    def __init__(self, record: KeyRecord, policies: ResourcePolicies, provider: Provider, limit: MessageLimit) -> None:
        self.uid = record.uid
        self.spec = record.spec
        self.usage = record.usage
        self.level = record.protection_level
        self.state = record.state
        self.primary_version = record.primary_version
        self.resource = Resource(
            "Key",
            sys.intern(record.name),
            sys.intern(record.account),
            record.revision,
            {sys.intern(tag): value for tag, value in record.tags.items()} if record.tags else _NO_TAGS,
            _ATTRIBUTES[record.protection_level],
            self.uid,
            policies,
        )
        self._versions = tuple(map(Version, record.versions))
        self._provider = provider
        self._limit = limit

    @property
    def name(self) -> str:
        """`accounts/{account}/keys/{key}`."""
        return self.resource.name

    @property
    def account(self) -> str:
        """The id of the account that it belongs to."""
        return self.resource.account

    @property
    def algorithms(self) -> tuple[Algorithm.ValueType, ...]:
        """What it can be used with."""
        return ALGORITHMS[self.spec, self.usage]

    def require_enabled(self) -> None:
        """Raises KEY_DISABLED or KEY_STATE_INVALID unless the key may be used."""
        if self.state != KEY_STATE_ENABLED:
            state = KeyState.Name(self.state).removeprefix("KEY_STATE_")
            raise _unusable(state, f"key {self.name} is {state}")

    def material(self, number: int) -> Opened:
        """The material of one version. Raises KEY_DISABLED, KEY_STATE_INVALID, KEY_VERSION_NOT_FOUND, or
        KEY_MATERIAL_REFUSED when the stored blob is not this version's."""
        version = self.version(number)
        if version.expires_us is not None and version.expires_us <= clock.system_clock.now_us():
            raise _unusable("PENDING_IMPORT", f"the material of {self.version_name(number)} has expired")
        opened = version.opened
        if opened is None:
            opened = version.opened = self._open(number, version)
        return opened

    def adopt(self, before: Key) -> None:
        """Takes over material that was opened of the key as it was read before, where its blob is the same."""
        if self._bound_to() != before._bound_to():
            return
        known = {version.number: version for version in before._versions}
        for version in self._versions:
            old = known.get(version.number)
            same = old is not None and (old.wrapped, old.public_key) == (version.wrapped, version.public_key)
            if old is not None and same and version.state == KEY_VERSION_STATE_ENABLED:
                version.opened = old.opened

    def _bound_to(self) -> tuple[object, ...]:
        return self.uid, self.name, self.account, self.spec, self.usage, self.level

    def spend_messages(self, version: int, count: int) -> None:
        """Counts messages before they are encrypted. Raises KEY_STATE_INVALID when the version has none left,
        KEYSTORE_UNREACHABLE."""
        self._limit.spend(self.uid, version, count)

    def has_version(self, number: int) -> bool:
        """Whether there is a version of this number, in whatever state."""
        return self._find(number) is not None

    def version(self, number: int) -> Version:
        """One version. Raises KEY_VERSION_NOT_FOUND."""
        version = self._find(number)
        if version is None:
            raise StrongroomError(Reason.KEY_VERSION_NOT_FOUND, f"key {self.name} has no version {number}")
        return version

    def version_name(self, number: int) -> str:
        """The full name of one version."""
        return f"{self.resource.name}/versions/{number}"

    def _find(self, number: int) -> Version | None:
        # The newest are used most, and most keys have few.
        for version in reversed(self._versions):
            if version.number == number:
                return version
        return None

    def _open(self, number: int, version: Version) -> Opened:
        if version.state != KEY_VERSION_STATE_ENABLED:
            state = KeyVersionState.Name(version.state).removeprefix("KEY_VERSION_STATE_")
            raise _unusable(state, f"version {number} of key {self.name} is {state}")
        binding = Binding(self.account, self.name, self.uid, number, self.spec, self.usage, self.level)
        return material.open_blob(self._provider, binding, version.wrapped, version.public_key)


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
        self._get_key_record = KEYSTORE.method(keystore, KeyRecordServiceStub, "GetKeyRecord", _TIMEOUT_SECONDS)
        self._provider = provider
        self._parsed_policies = parsed_policies
        self._limit = MessageLimit(keystore, capacity)
        # There is no such account, as nobody can guess.
        self._nowhere = f"accounts/nowhere-{token_hex(16)}"
        # To open a key again takes the token, which may be busy or away.
        self._keys: FreshCache[bytes, Key] = FreshCache(feed, capacity, keeps_aged=True)
        self._uids: FreshCache[str, bytes] = FreshCache(feed, 2 * capacity)
        feed.listen(self._changed, self._forget_all)

    def by_name(self, name: str) -> Key:
        """The key of this name or alias. Raises KEY_NOT_FOUND."""
        # The one string that the key itself has for its name.
        name = sys.intern(name)
        fetched: list[tuple[Key, int]] = []

        def read_uid() -> tuple[bytes, int]:
            key, as_of_revision = self._read(GetKeyRecordRequest(name=name))
            fetched.append((key, as_of_revision))
            return key.uid, as_of_revision

        uid = self._uids.get(name, read_uid)
        return self._keys.get(uid, lambda: fetched[0] if fetched else self._read(GetKeyRecordRequest(uid=uid)))

    def by_uid(self, uid: bytes) -> Key:
        """The key of this uid. Raises KEY_NOT_FOUND."""
        return self._keys.get(uid, lambda: self._read(GetKeyRecordRequest(uid=uid)))

    def remembers(self, name: str) -> bool:
        """Whether the key of this name or alias is found without asking keystore."""
        return name in self._uids

    def look_in_vain(self, collection: str) -> None:
        """Raises KEY_NOT_FOUND or ALIAS_NOT_FOUND, after as long as looking for one that there is not takes."""
        self._read(GetKeyRecordRequest(name=f"{self._nowhere}/{collection}/nothing"))

    def _read(self, request: GetKeyRecordRequest) -> tuple[Key, int]:
        response: KeyRecordResponse = self._get_key_record(request)
        record = response.record
        policies = self._parsed_policies(record.resource_policies)
        key = Key(record, policies, self._provider, self._limit)
        aged = self._keys.aged(key.uid)
        if aged is not None:
            key.adopt(aged)
        return key, response.as_of_revision

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
