"""New keys, and keys as callers find them. Every method first asks whether the caller may, and records that."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from services.keystore import changes, store
from services.keystore.editing import KeyEditor
from services.keystore.filters import KeyFilter
from services.keystore.key_versions import new_version
from services.keystore.material import Material
from services.keystore.records import Key, Request, Version
from services.runtime.authorization import Authorizer, account_resource
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.database import reading, transaction
from services.runtime.errors import Reason, StrongroomError
from services.runtime.names import ResourceName, parse
from services.runtime.outbox import Outbox
from services.runtime.repeats import REPEATABLE_US, Repeatable, reused
from strongroom.keystore.v1.key_pb2 import (
    KEY_ORIGIN_EXTERNAL,
    KEY_STATE_ENABLED,
    KEY_STATE_PENDING_IMPORT,
    KEY_VERSION_ORIGIN_CREATION,
    KeyOrigin,
    KeySpec,
    KeyUsage,
    ProtectionLevel,
)
from strongroom.keystore.v1.key_record_service_pb2 import CHANGE_KIND_KEY

_UID_BYTES = 16


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a caller asks a new key to be."""

    name: ResourceName
    spec: KeySpec.ValueType
    usage: KeyUsage.ValueType
    protection_level: ProtectionLevel.ValueType
    origin: KeyOrigin.ValueType
    description: str
    tags: Mapping[str, str]
    deletion_protection: bool
    rotation_period_s: int | None = None


class Keys:
    """The keys of all accounts. No database transaction is open while crypto is asked for material."""

    def __init__(
        self,
        engine: Engine,
        editor: KeyEditor,
        material: Material,
        authorizer: Authorizer,
        outbox: Outbox,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._editor = editor
        self._material = material
        self._authorizer = authorizer
        self._outbox = outbox
        self._clock = clock

    def create(self, call: Call, new: NewKey, repeatable: Repeatable | None = None) -> Key:
        """A new key with its first version. Raises ALREADY_EXISTS, REQUEST_ID_REUSED, and what crypto raises."""
        actions = ("keystore:CreateKey", "keystore:TagKey") if new.tags else ("keystore:CreateKey",)
        for action in actions:
            # Permitted on the account; the event says which key it was for.
            self._authorizer.authorize(call, action, account_resource(new.name.account)).resource = str(new.name)
        return self.make(call, new, repeatable)

    def make(self, call: Call, new: NewKey, repeatable: Repeatable | None = None) -> Key:
        """The same for a call that was permitted before."""
        made_before = self._made_before(new.name.account, repeatable)
        if made_before is not None:
            for event in call.events:
                event.resource = str(made_before.name)
            return made_before
        key = _created(new, self._clock() // 1000)
        version = new_version(key, 1, KEY_VERSION_ORIGIN_CREATION, self._material)
        for event in call.events:
            event.key_version = str(key.version_name(1))
        try:
            return self._stored(call, key, version, repeatable)
        except IntegrityError:
            # Another call took the name, or the request id.
            made_before = self._made_before(new.name.account, repeatable)
            if made_before is not None:
                return made_before
            raise StrongroomError(
                Reason.ALREADY_EXISTS, f"{new.name} exists, or existed, already", field="key_id"
            ) from None

    def get(self, call: Call, name: ResourceName) -> Key:
        """A key by name or alias. Raises KEY_NOT_FOUND or ALIAS_NOT_FOUND."""
        return self._editor.permitted(call, "keystore:GetKey", name)

    def page(self, call: Call, account: str, after: str, limit: int, wanted: KeyFilter) -> list[Key]:
        """An account's keys that the filter lets through, in the order of their ids, from the first behind `after`."""
        self._authorizer.authorize(call, "keystore:ListKeys", account_resource(account))
        with reading(self._engine) as connection:
            return store.keys_page(connection, account, after, limit, wanted)

    def _made_before(self, account: str, repeatable: Repeatable | None) -> Key | None:
        """What the same request made already. Raises REQUEST_ID_REUSED when another one had its id."""
        if repeatable is None:
            return None
        since_us = self._clock() // 1000 - REPEATABLE_US
        with reading(self._engine) as connection:
            known = store.request(connection, account, repeatable.request_id, since_us)
            if known is None:
                return None
            if known.digest != repeatable.digest:
                raise reused()
            return store.key(connection, parse(known.resource, "request_id", "keys"))

    def _stored(self, call: Call, key: Key, version: Version, repeatable: Repeatable | None) -> Key:
        account, now_us = key.name.account, key.created_us
        with transaction(self._engine) as connection:
            key = replace(key, revision=changes.note(connection, CHANGE_KIND_KEY, str(key.name), account, key.uid))
            store.insert_key(connection, key)
            store.insert_version(connection, version)
            if repeatable is not None:
                done = Request(account, repeatable.request_id, repeatable.digest, str(key.name), now_us)
                store.insert_request(connection, done, now_us - REPEATABLE_US)
            self._outbox.put(connection, call)
        return key


def _created(new: NewKey, now_us: int) -> Key:
    return Key(
        new.name,
        os.urandom(_UID_BYTES),
        new.spec,
        new.usage,
        new.protection_level,
        new.origin,
        KEY_STATE_PENDING_IMPORT if new.origin == KEY_ORIGIN_EXTERNAL else KEY_STATE_ENABLED,
        new.description,
        new.tags,
        new.deletion_protection,
        primary_version=1,
        revision=0,
        created_us=now_us,
        updated_us=now_us,
        rotated_us=now_us,
        rotation_period_s=new.rotation_period_s,
    )
