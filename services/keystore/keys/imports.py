"""Material that the owner of a key imports, deletes again, or lets expire."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Connection, Engine

from services.keystore.keys import material as wrapped
from services.keystore.keys.editing import Change, KeyEditor
from services.keystore.keys.key_versions import found_version
from services.keystore.keys.lifecycle import require_unprotected
from services.keystore.keys.material import ImportParameters, Material
from services.keystore.store import store
from services.keystore.store.model import Key, Version
from services.keystore.store.states import KeyEvent, VersionEvent, next_state, next_version_state
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.storage.database import reading
from services.runtime.storage.editing import UNCHANGED, Unchanged
from strongroom.keystore.v1 import key_pb2 as k

_TOKEN_US = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Begun:
    """An import that was begun."""

    version: ResourceName
    parameters: ImportParameters
    expire_us: int
    """When they expire, in microseconds since the Unix epoch."""


class Imports:
    """Material of keys of origin EXTERNAL. Methods raise KEY_NOT_FOUND, KEY_VERSION_NOT_FOUND, PERMISSION_DENIED, and
    KEY_STATE_INVALID where a state, or the key's origin, does not allow them."""

    def __init__(self, engine: Engine, editor: KeyEditor, material: Material, clock: Clock) -> None:
        self._engine = engine
        self._editor = editor
        self._material = material
        self._clock = clock

    def begin(self, call: Call, name: ResourceName, method: k.ImportMethod.ValueType) -> Begun:
        """What material for a version is to be wrapped with; without a version, for the one that waits for material,
        or else the primary one. Raises what `Material.begin_import` does."""
        key = self._editor.permitted(call, "keystore:GetParametersForImport", name.without_version)
        with reading(self._engine) as connection:
            version = found_version(connection, key, name.version) if name.version else _awaited(connection, key)
        _require_importable(key, version)
        version_name = key.version_name(version.version)
        _record(call, version_name)
        expire_us = self._clock.now_us() + _TOKEN_US
        return Begun(version_name, self._material.begin_import(key, version.version, method, expire_us), expire_us)

    def finish(
        self, call: Call, name: ResourceName, token: bytes, encrypted: bytes, expires_us: int | None
    ) -> tuple[Key, Version]:
        """Takes in a version's material. Raises IMPORT_TOKEN_INVALID for a token of another version than the name's,
        OVERLOADED when another import came between, and what `Material.finish_import` does."""
        key = self._editor.permitted(call, "keystore:ImportKeyMaterial", name.without_version)
        read = wrapped.read_token(token)
        if name.version and name.version != read.version:
            raise StrongroomError(
                Reason.IMPORT_TOKEN_INVALID, f"the import token was not made for {name}", field="import_token"
            )
        with reading(self._engine) as connection:
            known = found_version(connection, key, read.version)
        _require_importable(key, known)
        _record(call, key.version_name(known.version))
        # No transaction is open while crypto opens the material.
        imported = self._material.finish_import(key, read, encrypted, known.fingerprint)

        def change(connection: Connection, present: Key, now_us: int) -> Key:
            version = found_version(connection, present, known.version)
            _require_importable(present, version)
            if version.fingerprint != known.fingerprint:
                raise StrongroomError(Reason.OVERLOADED, f"{name} was imported by another call just now: try again")
            version = replace(
                version,
                state=next_version_state(version.state, VersionEvent.IMPORT),
                wrapped=imported.material.wrapped,
                public_key=imported.material.public_key,
                root_version=imported.material.root_version,
                imported_us=now_us,
                expires_us=expires_us,
                fingerprint=imported.fingerprint,
            )
            store.update_version(connection, version)
            if version.version != present.primary_version:
                return present
            return replace(present, state=next_state(present.state, KeyEvent.GAIN_MATERIAL)).with_primary(version)

        return self._changed(call, key, known.version, change)

    def delete(self, call: Call, name: ResourceName) -> tuple[Key, Version]:
        """Deletes a version's material until it is imported again; without a version, the primary one's. Raises
        DELETION_PROTECTED."""
        key = self._editor.permitted(call, "keystore:DeleteImportedKeyMaterial", name.without_version)
        number = name.version or key.primary_version
        _record(call, key.version_name(number))

        def change(connection: Connection, present: Key, _now_us: int) -> Key:
            _require_external(present)
            next_state(present.state, KeyEvent.CHANGE_VERSION)
            require_unprotected(present)
            return _without_material(connection, present, found_version(connection, present, number))

        return self._changed(call, key, number, change)

    def expire_due(self, call: Call, key: Key) -> Key:
        """Deletes the material of every version of a key that has expired."""

        def change(connection: Connection, present: Key, now_us: int) -> Key | Unchanged:
            versions = store.versions(connection, present.uid)
            expired = [one for one in versions if one.expires_us is not None and one.expires_us <= now_us]
            if not expired:
                return UNCHANGED
            changed = present
            for version in expired:
                changed = _without_material(connection, changed, version)
                _record(call, present.version_name(version.version))
            return changed

        return self._editor.edit(call, key, change)

    def _changed(self, call: Call, key: Key, number: int, change: Change) -> tuple[Key, Version]:
        changed = self._editor.edit(call, key, change)
        with reading(self._engine) as connection:
            return changed, found_version(connection, changed, number)


def _awaited(connection: Connection, key: Key) -> Version:
    versions = store.versions(connection, key.uid)
    primary = versions[key.primary_version - 1]
    waiting = (version for version in versions if version.state == k.KEY_VERSION_STATE_PENDING_IMPORT)
    return primary if primary.state == k.KEY_VERSION_STATE_PENDING_IMPORT else next(waiting, primary)


def _require_external(key: Key) -> None:
    if key.origin != k.KEY_ORIGIN_EXTERNAL:
        raise StrongroomError(
            Reason.KEY_STATE_INVALID, f"{key.name} is not of origin EXTERNAL: its material was made here"
        )


def _require_importable(key: Key, version: Version) -> None:
    _require_external(key)
    next_state(key.state, KeyEvent.CHANGE_VERSION)
    next_version_state(version.state, VersionEvent.IMPORT)


def _without_material(connection: Connection, key: Key, version: Version) -> Key:
    version = version.without_material(next_version_state(version.state, VersionEvent.LOSE_MATERIAL))
    store.update_version(connection, version)
    if version.version != key.primary_version:
        return key
    return replace(key, state=next_state(key.state, KeyEvent.LOSE_MATERIAL)).with_primary(version)


def _record(call: Call, version: ResourceName) -> None:
    for event in call.events:
        event.key_version = str(version)
