"""Uses of keys: found, permitted, recorded, and opened for what their usage allows."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar

from services.crypto.keys.key_records import Key, KeyRecords
from services.crypto.keys.material import Opened
from services.crypto.primitives import algorithms
from services.crypto.primitives.public_keys import Asymmetric
from services.runtime import encryption_context
from services.runtime.access.authorization import Authorizer, Resource
from services.runtime.access.decisions import NO_POLICIES
from services.runtime.call import Call
from services.runtime.encryption_context import EncryptionContext
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests import names
from services.runtime.requests.key_specs import spec_name, usage_name
from strongroom.audit.v1.event_pb2 import Event
from strongroom.crypto.v1.algorithm_pb2 import Algorithm

M = TypeVar("M", bound=Opened | Asymmetric)

_NOT_FOUND = (Reason.KEY_NOT_FOUND, Reason.ALIAS_NOT_FOUND)


class KeyUse(Generic[M]):
    """One permitted use of a key version, with the event that records it. `field` named the key.

    Making it raises KEY_DISABLED, KEY_STATE_INVALID, KEY_VERSION_NOT_FOUND, KEY_MATERIAL_REFUSED, or KEY_USAGE_INVALID
    when the key's material is not of `kind`.
    """

    __slots__ = ("event", "key", "key_name", "material", "version", "version_name")

    def __init__(self, key: Key, version: int, kind: type[M], event: Event, field: str = "key") -> None:
        self.event = event
        self.key = key
        self.key_name = key.name
        self.version = version or key.primary_version
        self.version_name = event.key_version = key.version_name(self.version) if key.has_version(self.version) else ""
        key.require_enabled()
        material = key.material(self.version)
        if not isinstance(material, kind):
            raise _unfit(key, event.action, field)
        self.material: M = material

    def algorithm(self, requested: Algorithm.ValueType, field: str = "algorithm") -> Algorithm.ValueType:
        """The algorithm asked for, or the key's default. Raises ALGORITHM_INVALID for one that does not fit the key."""
        return algorithms.choose(self.key.algorithms, requested, field)


class KeyUses:
    """Finds keys, and asks whether the caller may use them."""

    def __init__(self, records: KeyRecords, authorizer: Authorizer) -> None:
        self._records = records
        self._authorizer = authorizer

    def named(
        self,
        call: Call,
        action: str,
        name: str,
        kind: type[M],
        context: EncryptionContext = encryption_context.NONE,
        *,
        field: str = "key",
        versioned: bool | None = None,
    ) -> KeyUse[M]:
        """A use of the key, alias or key version of this name; `versioned=False` does without the last.

        Raises NAME_MALFORMED, PERMISSION_DENIED, KEY_NOT_FOUND, ALIAS_NOT_FOUND, and what KeyUse does.
        """
        parsed = names.parse(name, field, "keys", "aliases", versioned=versioned)
        whole = str(parsed.without_version) if parsed.version else name
        elsewhere = parsed.account != call.principal.account
        remembered = elsewhere and self._records.remembers(whole)
        try:
            key = call.find(whole, lambda: self._found(whole, field))
            if elsewhere and not remembered:
                call.elsewhere["key", whole] = key
        except StrongroomError as error:
            if error.reason in _NOT_FOUND:
                # Whoever may not use it must not learn that it does not exist: permission comes first.
                of_policies = "Alias" if parsed.collection == "aliases" else "Key"
                # The record of one that there is has its policies with it.
                unknown = Resource(of_policies, whole, parsed.account, policies=NO_POLICIES)
                self._authorizer.authorize(call, action, unknown, context)
            raise
        try:
            event = self.authorized(call, action, key, context, named=whole)
        except StrongroomError:
            if remembered and ("key", whole) not in call.elsewhere:
                # Another account's key that is absent is asked for at keystore once a call: one that is there must not
                # be refused sooner.
                with suppress(StrongroomError):
                    call.find((whole, "in vain"), partial(self._records.look_in_vain, parsed.collection))
            raise
        return KeyUse(key, parsed.version, kind, event, field)

    def require_standing(self, call: Call) -> None:
        """Raises PRINCIPAL_DISABLED, TOKEN_INVALID or IDENTITY_UNKNOWN where the caller may do nothing at all."""
        self._authorizer.admit(call)

    def carried(self, call: Call, uid: bytes) -> Key | None:
        """The key of the uid that a ciphertext carries. Nothing is permitted yet."""
        try:
            return call.find(uid, lambda: self._records.by_uid(uid))
        except StrongroomError as error:
            if error.reason is Reason.KEY_NOT_FOUND:
                return None
            raise

    def is_name_of(self, name: str, key: Key, field: str = "key") -> bool:
        """Whether this is a key's name, or an alias of it. What else there is of such a name is not told."""
        parsed = names.parse(name, field, "keys", "aliases")
        if parsed.collection == "keys" or parsed.account != key.account:
            # An alias is of its key's own account: for other names nothing need be looked up.
            return name == key.name
        try:
            return self._records.by_name(name).uid == key.uid
        except StrongroomError as error:
            if error.reason in _NOT_FOUND:
                return False
            raise

    def authorized(
        self,
        call: Call,
        action: str,
        key: Key,
        context: EncryptionContext = encryption_context.NONE,
        *,
        named: str = "",
    ) -> Event:
        """The event that records a use. `named` is what the caller wrote for the key. Raises PERMISSION_DENIED."""
        return self._authorizer.authorize(call, action, key.resource, context, named=named)

    def _found(self, name: str, field: str) -> Key:
        try:
            return self._records.by_name(name)
        except StrongroomError as error:
            if error.reason in _NOT_FOUND:
                # Keystore named the field of its own request.
                raise StrongroomError(error.reason, error.message, field=field) from error
            raise


def _unfit(key: Key, action: str, field: str) -> StrongroomError:
    spec, usage = spec_name(key.spec), usage_name(key.usage)
    return StrongroomError(
        Reason.KEY_USAGE_INVALID, f"{action} cannot use {key.name}, which is {spec} for {usage}", field=field
    )
