"""What callers change of keys: descriptions, tags, protection, rotation policy, and the steps of a key's life."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from sqlalchemy import Connection

from services.keystore.keys.editing import KeyEditor
from services.keystore.store import store
from services.keystore.store.destroyed import ids_of
from services.keystore.store.model import Key
from services.keystore.store.states import KeyEvent, VersionEvent, next_state, next_version_state
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError, invalid
from services.runtime.requests.names import ResourceName
from services.runtime.requests.tags import MAX_TAGS
from services.runtime.storage.editing import UNCHANGED, Unchanged, require_current
from strongroom.keystore.v1 import key_pb2 as k

SECOND_US = 1_000_000

# Whose ciphertexts say which version made them.
_ROTATING_SPECS = (k.KEY_SPEC_AES_256, k.KEY_SPEC_AES_128, k.KEY_SPEC_SM4)


class Lifecycle:
    """Changes of keys. Every method raises KEY_NOT_FOUND, PERMISSION_DENIED, and KEY_STATE_INVALID where the key's
    state does not allow it (`states`)."""

    def __init__(self, editor: KeyEditor) -> None:
        self._editor = editor

    def describe(self, call: Call, name: ResourceName, description: str, etag: str) -> Key:
        """Gives a key another description. Raises ETAG_MISMATCH."""

        def change(_connection: Connection, key: Key, _now_us: int) -> Key | Unchanged:
            require_current(key.name, key.revision, etag, "key.etag")
            return replace(key, state=next_state(key.state, KeyEvent.DESCRIBE), description=description)

        return self._editor.permitted_edit(call, "keystore:UpdateKey", name, change)

    def enable(self, call: Call, name: ResourceName) -> Key:
        """Lets a key be used again."""
        return self._moved(call, "keystore:EnableKey", name, KeyEvent.ENABLE)

    def disable(self, call: Call, name: ResourceName) -> Key:
        """Stops every use of a key."""
        return self._moved(call, "keystore:DisableKey", name, KeyEvent.DISABLE)

    def protect(self, call: Call, name: ResourceName, *, protected: bool, comment: str = "") -> Key:
        """Turns deletion protection on or off; the event has the comment."""

        def change(_connection: Connection, key: Key, _now_us: int) -> Key | Unchanged:
            next_state(key.state, KeyEvent.PROTECT)
            for event in call.events if comment else ():
                event.attributes["comment"] = comment
            return UNCHANGED if key.deletion_protection == protected else replace(key, deletion_protection=protected)

        return self._editor.permitted_edit(call, "keystore:SetDeletionProtection", name, change)

    def tag(self, call: Call, name: ResourceName, tags: Mapping[str, str]) -> Key:
        """Adds tags, and replaces those of the same keys. Raises LIMIT_EXCEEDED beyond 50."""

        def change(_connection: Connection, key: Key, _now_us: int) -> Key | Unchanged:
            next_state(key.state, KeyEvent.DESCRIBE)
            return _tagged(key, {**key.tags, **tags})

        return self._editor.permitted_edit(call, "keystore:TagKey", name, change)

    def untag(self, call: Call, name: ResourceName, tag_keys: Iterable[str]) -> Key:
        """Removes tags, as far as they are there."""
        removed = set(tag_keys)

        def change(_connection: Connection, key: Key, _now_us: int) -> Key | Unchanged:
            next_state(key.state, KeyEvent.DESCRIBE)
            return _tagged(key, {tag: value for tag, value in key.tags.items() if tag not in removed})

        return self._editor.permitted_edit(call, "keystore:UntagKey", name, change)

    def plan_rotation(self, call: Call, name: ResourceName, period_s: int | None) -> Key:
        """Sets the rotation policy, or removes it with None. Raises FIELD_INVALID for a key that cannot rotate by
        itself."""

        def change(_connection: Connection, key: Key, _now_us: int) -> Key | Unchanged:
            next_state(key.state, KeyEvent.PLAN_ROTATION)
            if period_s is not None:
                check_rotates(key.spec, key.origin)
            return UNCHANGED if key.rotation_period_s == period_s else replace(key, rotation_period_s=period_s)

        return self._editor.permitted_edit(call, "keystore:UpdateRotationPolicy", name, change)

    def schedule_deletion(self, call: Call, name: ResourceName, window_s: int) -> Key:
        """Stops every use, and plans the destruction. Raises DELETION_PROTECTED."""

        def change(_connection: Connection, key: Key, now_us: int) -> Key | Unchanged:
            state = next_state(key.state, KeyEvent.SCHEDULE_DELETION)
            require_unprotected(key)
            return replace(key, state=state, delete_us=now_us + window_s * SECOND_US)

        return self._editor.permitted_edit(call, "keystore:ScheduleKeyDeletion", name, change)

    def cancel_deletion(self, call: Call, name: ResourceName) -> Key:
        """Takes a planned deletion back; the key stays disabled, or waits for its material."""

        def change(connection: Connection, key: Key, _now_us: int) -> Key | Unchanged:
            state = next_state(key.state, KeyEvent.CANCEL_DELETION)
            left = (v for v in store.versions(connection, key.uid) if v.state != k.KEY_VERSION_STATE_DESTROYED)
            if self._editor.destroyed.among(ids_of(left)):
                # Its destruction was begun, and will be ended.
                next_state(k.KEY_STATE_DESTROYED, KeyEvent.CANCEL_DELETION)
            primary = store.version(connection, key.uid, key.primary_version)
            if primary is not None and primary.state == k.KEY_VERSION_STATE_PENDING_IMPORT:
                state = next_state(state, KeyEvent.LOSE_MATERIAL)
            return replace(key, state=state, delete_us=None)

        return self._editor.permitted_edit(call, "keystore:CancelKeyDeletion", name, change)

    def destroy_due(self, call: Call, key: Key) -> Key:
        """Destroys the material of every version when the key's time has come; leaves it alone otherwise."""

        def change(connection: Connection, present: Key, now_us: int) -> Key | Unchanged:
            if present.delete_us is None or present.delete_us > now_us:
                return UNCHANGED
            state = next_state(present.state, KeyEvent.DESTROY)
            versions = store.versions(connection, present.uid)
            self._editor.destroyed.note(ids_of(versions))
            for version in versions:
                following = next_version_state(version.state, VersionEvent.DESTROY_WITH_KEY)
                if following != version.state:
                    store.update_version(connection, version.destroyed(following, now_us))
            return replace(present, state=state, delete_us=None, destroyed_us=now_us)

        return self._editor.edit(call, key, change)

    def _moved(self, call: Call, action: str, name: ResourceName, event: KeyEvent) -> Key:
        def change(_connection: Connection, key: Key, _now_us: int) -> Key | Unchanged:
            state = next_state(key.state, event)
            return UNCHANGED if state == key.state else replace(key, state=state)

        return self._editor.permitted_edit(call, action, name, change)


def check_rotates(spec: k.KeySpec.ValueType, origin: k.KeyOrigin.ValueType, field: str = "rotation_policy") -> None:
    """Raises FIELD_INVALID unless keys of this spec and origin can rotate by themselves."""
    if spec not in _ROTATING_SPECS:
        raise invalid(field, "is for AES and SM4 keys, whose ciphertexts say which version made them")
    if origin != k.KEY_ORIGIN_STRONGROOM:
        raise invalid(field, "is for keys whose material is made here")


def require_unprotected(key: Key) -> None:
    """Raises DELETION_PROTECTED when the key is protected."""
    if key.deletion_protection:
        raise StrongroomError(Reason.DELETION_PROTECTED, f"{key.name} is protected from deletion")


def _tagged(key: Key, tags: Mapping[str, str]) -> Key | Unchanged:
    if len(tags) > MAX_TAGS:
        raise StrongroomError(Reason.LIMIT_EXCEEDED, f"{key.name} would have more than {MAX_TAGS} tags", field="tags")
    return UNCHANGED if tags == key.tags else replace(key, tags=tags)
