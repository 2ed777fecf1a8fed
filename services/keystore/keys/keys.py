"""New keys, and keys as callers find them. Every method first asks whether the caller may, and records that."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from services.keystore.keys.editing import REQUEST_IDS, KeyEditor, not_found
from services.keystore.keys.key_versions import new_version
from services.keystore.keys.material import Material
from services.keystore.store import changes, store
from services.keystore.store.filters import KeyFilter
from services.keystore.store.model import Key, Version
from services.runtime.access.authorization import Authorizer, account_resource
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName, parse
from services.runtime.storage.database import reading, transaction
from services.runtime.storage.outbox import Outbox
from services.runtime.storage.request_ids import Repeatable
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
        """Makes a key for a call that was permitted before. Raises as `create` does."""
        with reading(self._engine) as connection:
            made_before = self._made_before(connection, call, new.name.account, repeatable)
        if made_before is not None:
            return made_before
        key = _created(new, self._clock.now_us())
        version = new_version(key, 1, KEY_VERSION_ORIGIN_CREATION, self._material)
        for event in call.events:
            event.key_version = str(key.version_name(1))
        try:
            return self._stored(call, key, version, repeatable)
        except IntegrityError:
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

    def _made_before(
        self, connection: Connection, call: Call, account: str, repeatable: Repeatable | None
    ) -> Key | None:
        """What the same request made already. Raises REQUEST_ID_REUSED when another one had its id."""
        made = REQUEST_IDS.made_before(connection, account, repeatable, self._clock.now_us())
        if made is None:
            return None
        for event in call.events:
            event.resource, event.key_version = made, ""
        name = parse(made, "request_id", "keys")
        key = store.key(connection, name)
        if key is None:
            raise not_found(name, "request_id")
        return key

    def _stored(self, call: Call, key: Key, version: Version, repeatable: Repeatable | None) -> Key:
        account, now_us = key.name.account, key.created_us
        with transaction(self._engine) as connection:
            made_before = self._made_before(connection, call, account, repeatable)
            if made_before is not None:
                return made_before
            key = replace(key, revision=changes.note(connection, CHANGE_KIND_KEY, str(key.name), account, key.uid))
            store.insert_key(connection, key, version)
            REQUEST_IDS.remember(connection, account, repeatable, str(key.name), now_us)
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
