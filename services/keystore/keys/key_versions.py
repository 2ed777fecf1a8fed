"""What callers do with the versions of a key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import Connection, Engine

from services.keystore.keys.editing import REQUEST_IDS, KeyEditor
from services.keystore.keys.lifecycle import SECOND_US, require_unprotected
from services.keystore.keys.material import Material
from services.keystore.store import store
from services.keystore.store.destroyed import ids_of
from services.keystore.store.model import Key, Version
from services.keystore.store.states import KeyEvent, VersionEvent, next_state, next_version_state
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError, invalid
from services.runtime.requests.names import ResourceName, parse
from services.runtime.storage.database import reading
from services.runtime.storage.editing import UNCHANGED, Unchanged
from services.runtime.storage.request_ids import Repeatable
from services.runtime.storage.sql_filters import Condition
from strongroom.keystore.v1 import key_pb2 as k

_ATTEMPTS = 5


class _OvertakenError(Exception):
    """Another call made the version of this number first."""


class _MadeBeforeError(Exception):
    """This request made a version while another of it waited."""

    def __init__(self, key: Key, version: Version) -> None:
        super().__init__()
        self.made = key, version


class KeyVersions:
    """The versions of all keys. Methods raise KEY_NOT_FOUND, KEY_VERSION_NOT_FOUND, PERMISSION_DENIED, and
    KEY_STATE_INVALID where a state does not allow them (`states`)."""

    def __init__(self, engine: Engine, editor: KeyEditor, material: Material) -> None:
        self._engine = engine
        self._editor = editor
        self._material = material

    def get(self, call: Call, name: ResourceName) -> tuple[Key, Version]:
        """One version, with its key."""
        key = self._editor.permitted(call, "keystore:GetKeyVersion", name.without_version)
        with reading(self._engine) as connection:
            return key, found_version(connection, key, name.version)

    def page(
        self, call: Call, name: ResourceName, before: int, limit: int, conditions: Sequence[Condition]
    ) -> tuple[Key, list[Version]]:
        """A key and its versions that meet the conditions, newest first, from the first below `before`."""
        key = self._editor.permitted(call, "keystore:ListKeyVersions", name)
        with reading(self._engine) as connection:
            return key, store.versions_page(connection, key.uid, before, limit, conditions)

    def create(self, call: Call, name: ResourceName, repeatable: Repeatable | None = None) -> tuple[Key, Version]:
        """Rotates a key now. Raises KEY_DISABLED, REQUEST_ID_REUSED, CRYPTO_UNREACHABLE, PROVIDER_UNAVAILABLE."""
        key = self._editor.permitted(call, "keystore:CreateKeyVersion", name)
        with reading(self._engine) as connection:
            made_before = self._made_before(connection, key, repeatable)
        if made_before is not None:
            return key, made_before
        return self.rotate(call, key, k.KEY_VERSION_ORIGIN_MANUAL, repeatable)

    def rotate(
        self,
        call: Call,
        key: Key,
        origin: k.KeyVersionOrigin.ValueType,
        repeatable: Repeatable | None = None,
        still_due: Callable[[Connection, Key], bool] | None = None,
    ) -> tuple[Key, Version]:
        """Makes a new version, and makes it primary, for a call that was permitted before. One of an EXTERNAL key waits
        for its material, and is made primary later.

        With `still_due`, only if that says so of the locked key; the present version is the answer otherwise.
        """
        for _ in range(_ATTEMPTS):
            with reading(self._engine) as connection:
                number = store.newest_version(connection, key.uid) + 1
            # No transaction is open while crypto is asked for material.
            added = new_version(key, number, origin, self._material)

            def change(connection: Connection, present: Key, now_us: int, added: Version = added) -> Key | Unchanged:
                made_before = self._made_before(connection, present, repeatable)
                if made_before is not None:
                    raise _MadeBeforeError(present, made_before)
                if still_due is not None and not still_due(connection, present):
                    return UNCHANGED
                _require_rotatable(connection, present)
                if store.newest_version(connection, present.uid) + 1 != added.version:
                    raise _OvertakenError
                store.insert_version(connection, replace(added, created_us=now_us))
                version_name = str(present.version_name(added.version))
                REQUEST_IDS.remember(connection, present.name.account, repeatable, version_name, now_us)
                for event in call.events:
                    event.key_version = version_name
                changed = replace(present, rotated_us=now_us)
                return changed.with_primary(added) if added.wrapped else changed

            try:
                changed = self._editor.edit(call, key, change)
            except _OvertakenError:
                continue
            except _MadeBeforeError as repeated:
                return repeated.made
            with reading(self._engine) as connection:
                return changed, found_version(
                    connection, changed, changed.primary_version if added.wrapped else added.version
                )
        raise StrongroomError(Reason.OVERLOADED, f"{key.name} is being rotated by others over and over")

    def enable(self, call: Call, name: ResourceName) -> tuple[Key, Version]:
        """Lets a version be used again."""
        return self._moved(call, "keystore:EnableKeyVersion", name, VersionEvent.ENABLE)

    def disable(self, call: Call, name: ResourceName) -> tuple[Key, Version]:
        """Stops every use of a version other than the primary one."""
        return self._moved(call, "keystore:DisableKeyVersion", name, VersionEvent.DISABLE)

    def destroy(
        self, call: Call, name: ResourceName, waiting_s: int | None = None, *, despite_protection: bool = False
    ) -> tuple[Key, Version]:
        """Destroys a version's material for good, at once or when so many seconds are over. Raises DELETION_PROTECTED,
        unless it is to be at once `despite_protection`, which needs the permission to end that."""
        if despite_protection:
            if waiting_s is not None:
                raise invalid("despite_deletion_protection", "goes with no waiting_period")
            self._editor.permitted(call, "keystore:SetDeletionProtection", name.without_version)
        event = VersionEvent.DESTROY if waiting_s is None else VersionEvent.PLAN_DESTRUCTION
        return self._moved(
            call, "keystore:DestroyKeyVersion", name, event, waiting_s or 0, despite_protection=despite_protection
        )

    def cancel_destruction(self, call: Call, name: ResourceName) -> tuple[Key, Version]:
        """Takes a planned destruction back."""
        action = "keystore:CancelKeyVersionDestruction"
        return self._moved(call, action, name, VersionEvent.CANCEL_DESTRUCTION)

    def destroy_due(self, call: Call, key: Key) -> Key:
        """Destroys the material of every version whose time has come. Where the key was protected meanwhile, they are
        kept."""

        def change(connection: Connection, present: Key, now_us: int) -> Key | Unchanged:
            due = [version for version in store.versions(connection, present.uid) if _is_due(version, now_us)]
            if not due:
                return UNCHANGED
            kept = present.deletion_protection
            if not kept:
                self._editor.destroyed.note(ids_of(due))
            for version in due:
                ended = (
                    _saved(version)
                    if kept
                    else version.destroyed(next_version_state(version.state, VersionEvent.DESTROY), now_us)
                )
                store.update_version(connection, ended)
                for recorded in call.events:
                    recorded.key_version = str(present.version_name(version.version))
            return present

        return self._editor.edit(call, key, change)

    def set_primary(self, call: Call, name: ResourceName) -> Key:
        """Chooses the version that encrypts, signs and makes MACs."""

        def change(connection: Connection, key: Key, _now_us: int) -> Key | Unchanged:
            state = next_state(key.state, KeyEvent.CHOOSE_PRIMARY)
            version = found_version(connection, key, name.version)
            next_version_state(version.state, VersionEvent.CHOOSE)
            if version.retired_us is not None:
                raise StrongroomError(
                    Reason.KEY_STATE_INVALID, f"{name} has encrypted all the messages that it may", state="RETIRED"
                )
            if key.primary_version == version.version:
                return UNCHANGED
            return replace(key, state=state).with_primary(version)

        return self._editor.permitted_edit(call, "keystore:SetPrimaryKeyVersion", name.without_version, change)

    def _moved(
        self,
        call: Call,
        action: str,
        name: ResourceName,
        event: VersionEvent,
        waiting_s: int = 0,
        *,
        despite_protection: bool = False,
    ) -> tuple[Key, Version]:
        def change(connection: Connection, key: Key, now_us: int) -> Key | Unchanged:
            next_state(key.state, KeyEvent.CHANGE_VERSION)
            version = found_version(connection, key, name.version)
            state = next_version_state(version.state, event)
            if event is not VersionEvent.ENABLE and version.version == key.primary_version:
                raise StrongroomError(Reason.KEY_STATE_INVALID, f"{name} is the primary version", state="PRIMARY")
            if event in (VersionEvent.DESTROY, VersionEvent.PLAN_DESTRUCTION) and not despite_protection:
                require_unprotected(key)
            if event is VersionEvent.DESTROY:
                version = version.destroyed(state, now_us)
                self._editor.destroyed.note(ids_of([version]))
            elif event is VersionEvent.PLAN_DESTRUCTION:
                version = replace(version, destroyed_us=now_us + waiting_s * SECOND_US)
            elif event is VersionEvent.CANCEL_DESTRUCTION:
                if self._editor.destroyed.among(ids_of([version])):
                    # Its destruction was begun, and will be ended.
                    next_version_state(k.KEY_VERSION_STATE_DESTROYED, event)
                version = _saved(version)
                state = version.state
            store.update_version(connection, replace(version, state=state))
            return key

        key = self._editor.permitted(call, action, name.without_version)
        for recorded in call.events:
            recorded.key_version = str(key.version_name(name.version))
        changed = self._editor.edit(call, key, change)
        with reading(self._engine) as connection:
            return changed, found_version(connection, changed, name.version)

    def _made_before(self, connection: Connection, key: Key, repeatable: Repeatable | None) -> Version | None:
        made = REQUEST_IDS.made_before(connection, key.name.account, repeatable, self._editor.now_us())
        if made is None:
            return None
        return found_version(connection, key, parse(made, "request_id", "keys", versioned=True).version)


def found_version(connection: Connection, key: Key, number: int, *, lock: bool = False) -> Version:
    """One version of a key, as `store.version` reads it. Raises KEY_VERSION_NOT_FOUND."""
    version = store.version(connection, key.uid, number, lock=lock)
    if version is None:
        raise StrongroomError(Reason.KEY_VERSION_NOT_FOUND, f"there is no {key.version_name(number)}", field="name")
    return version


def new_version(key: Key, number: int, origin: k.KeyVersionOrigin.ValueType, material: Material) -> Version:
    """A version that is not stored yet: with material from crypto, or waiting for its owner's. Raises what
    `Material.create` does."""
    if key.origin == k.KEY_ORIGIN_EXTERNAL:
        return Version(key.uid, number, k.KEY_VERSION_STATE_PENDING_IMPORT, origin, b"", b"", 0, key.created_us)
    made = material.create(key, number)
    return Version(
        key.uid,
        number,
        k.KEY_VERSION_STATE_ENABLED,
        origin,
        made.wrapped,
        made.public_key,
        made.root_version,
        key.created_us,
    )


def _saved(version: Version) -> Version:
    """A version whose destruction is taken back: DISABLED, or waiting for its owner's material, if that has gone."""
    state = next_version_state(version.state, VersionEvent.CANCEL_DESTRUCTION)
    return replace(version, state=state if version.wrapped else k.KEY_VERSION_STATE_PENDING_IMPORT, destroyed_us=None)


def _is_due(version: Version, now_us: int) -> bool:
    planned = version.state == k.KEY_VERSION_STATE_PENDING_DESTRUCTION
    return planned and version.destroyed_us is not None and version.destroyed_us <= now_us


def _require_rotatable(connection: Connection, key: Key) -> None:
    if key.state == k.KEY_STATE_DISABLED:
        raise StrongroomError(Reason.KEY_DISABLED, f"key {key.name} is DISABLED", state="DISABLED")
    next_state(key.state, KeyEvent.ROTATE)
    if any(version.state == k.KEY_VERSION_STATE_PENDING_IMPORT for version in store.versions(connection, key.uid)):
        raise StrongroomError(
            Reason.KEY_STATE_INVALID, f"a version of {key.name} waits for material already", state="PENDING_IMPORT"
        )
