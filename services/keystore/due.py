"""What keystore does when its time has come: versions by rotation policy, the destruction of deleted keys, and the end
of imported material."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, Engine

from services.keystore import message_limit, store
from services.keystore.imports import Imports
from services.keystore.key_versions import KeyVersions
from services.keystore.lifecycle import Lifecycle
from services.keystore.own_calls import own_call
from services.keystore.records import Key
from services.keystore.root_key import RootKey
from services.runtime.clock import Clock
from services.runtime.database import reading
from services.runtime.schedule import Claim
from strongroom.keystore.v1.key_pb2 import KEY_VERSION_ORIGIN_AUTOMATIC, KEY_VERSION_ORIGIN_MESSAGE_LIMIT

_ROTATE = "rotate"
_DELETE = "delete"
_EXPIRE = "expire"
_LIMIT = "limit"
_ROOT = "root"

_FILL_LIMIT = 10_000
# Long enough to be worth a claim, short enough to stop soon.
_ROOT_SECONDS = 5.0


class DueKeys:
    """What is due of keystore's, and how it is done, for `DueWork`."""

    def __init__(
        self,
        engine: Engine,
        lifecycle: Lifecycle,
        versions: KeyVersions,
        imports: Imports,
        root_key: RootKey,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._lifecycle = lifecycle
        self._versions = versions
        self._imports = imports
        self._root_key = root_key
        self._clock = clock

    def due(self, until_us: int) -> Mapping[str, int]:
        """Items by their due time, as the database says."""
        with reading(self._engine) as connection:
            deletions = store.deletions_due(connection, until_us, _FILL_LIMIT)
            rotations = store.rotations_due(connection, until_us, _FILL_LIMIT)
            used_up = store.near_message_limit(connection, message_limit.NEAR, _FILL_LIMIT)
            expiries = store.expiries_due(connection, until_us, _FILL_LIMIT)
        now_us = self._clock() // 1000
        due = {f"{_DELETE}:{uid.hex()}": at for uid, at in deletions}
        due |= {f"{_ROTATE}:{uid.hex()}": at for uid, at in rotations}
        due |= {f"{_LIMIT}:{uid.hex()}": now_us for uid in used_up}
        due |= {f"{_EXPIRE}:{uid.hex()}": at for uid, at in expiries}
        return due

    def due_now(self) -> Mapping[str, int]:
        """The rotation of the root key, while there is one."""
        return {_ROOT: self._clock() // 1000} if self._root_key.is_rotating() else {}

    def handle(self, claim: Claim) -> float | None:
        """Does what an item stands for."""
        if claim.item == _ROOT:
            self._root_key.work(_ROOT_SECONDS)
        else:
            self._handle_key(claim.item)
        return None

    def _handle_key(self, item: str) -> None:
        kind, _, uid = item.partition(":")
        with reading(self._engine) as connection:
            key = store.key_by_uid(connection, bytes.fromhex(uid))
        now_us = self._clock() // 1000
        if key is not None and kind == _DELETE:
            self._lifecycle.destroy_due(own_call("DestroyKey", key.name), key)
        elif key is not None and kind == _EXPIRE:
            self._imports.expire_due(own_call("DeleteImportedKeyMaterial", key.name), key)
        elif key is not None and kind == _LIMIT:
            call = own_call("CreateKeyVersion", key.name)
            self._versions.rotate(call, key, KEY_VERSION_ORIGIN_MESSAGE_LIMIT, still_due=_is_used_up)
        elif key is not None and key.rotation_is_due(now_us):
            call = own_call("CreateKeyVersion", key.name)
            self._versions.rotate(
                call, key, KEY_VERSION_ORIGIN_AUTOMATIC, still_due=lambda _, present: present.rotation_is_due(now_us)
            )


def _is_used_up(connection: Connection, key: Key) -> bool:
    primary = store.version(connection, key.uid, key.primary_version)
    return primary is not None and primary.message_count >= message_limit.NEAR
