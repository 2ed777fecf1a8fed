"""Changes of keys: permitted, made under the key's lock, numbered, and recorded in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import Connection, Engine

from services.keystore.store import changes, store
from services.keystore.store.destroyed import Destroyed
from services.keystore.store.model import Key
from services.keystore.store.tables import requests
from services.runtime.access.authorization import Authorizer, Resource
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.storage.database import reading
from services.runtime.storage.editing import Edits, Unchanged, permitted
from services.runtime.storage.outbox import Outbox
from services.runtime.storage.request_ids import RequestIds
from strongroom.audit.v1.event_pb2 import Event
from strongroom.keystore.v1.key_record_service_pb2 import CHANGE_KIND_KEY

REQUEST_IDS = RequestIds(requests)
"""What calls with a request id did to anything that keystore keeps."""

Change = Callable[[Connection, Key, int], Key | Unchanged]
"""Gets the key as it is and the time in microseconds; answers the key as it is to be, or UNCHANGED. It may write to the
key's versions, and answers the key where it did."""


class KeyEditor:
    """Finds keys for callers, and changes them."""

    def __init__(
        self, engine: Engine, authorizer: Authorizer, outbox: Outbox, destroyed: Destroyed, clock: Clock
    ) -> None:
        self.destroyed = destroyed
        self._engine = engine
        self._authorizer = authorizer
        self._edits = Edits(engine, outbox, clock)

    def now_us(self) -> int:
        """The time."""
        return self._edits.now_us()

    def permitted(self, call: Call, action: str, name: ResourceName) -> Key:
        """The key of this name or alias, once the caller may. Raises PERMISSION_DENIED, KEY_NOT_FOUND,
        ALIAS_NOT_FOUND."""
        with reading(self._engine) as connection:
            key = store.key(connection, name)

        def authorize(resource: Resource) -> Event:
            # A refusal of an alias does not tell the key behind it.
            if resource.kind == "Key" and resource.name != str(name):
                return self._authorizer.authorize(call, action, resource, named=str(name))
            return self._authorizer.authorize(call, action, resource)

        return permitted(key, _unknown(name), authorize, lambda: not_found(name))[1]

    def permitted_edit(self, call: Call, action: str, name: ResourceName, change: Change) -> Key:
        """Changes the key of this name or alias, once the caller may. Raises as `permitted`, and what `change` does."""
        return self.edit(call, self.permitted(call, action, name), change)

    def edit(self, call: Call, key: Key, change: Change) -> Key:
        """Changes a key for a call that was permitted before. Raises KEY_NOT_FOUND, and what `change` does."""

        def lock(connection: Connection) -> Key:
            present = store.key_by_uid(connection, key.uid, lock=True)
            if present is None:
                raise not_found(key.name)
            return present

        return self._edits.edit(call, lock, change, _write)


def _write(connection: Connection, present: Key, wanted: Key, now_us: int) -> Key:
    revision = changes.note(connection, CHANGE_KIND_KEY, str(wanted.name), wanted.name.account, wanted.uid)
    changed = replace(wanted, revision=revision, updated_us=now_us)
    store.update_key(connection, changed)
    if changed.tags != present.tags:
        store.replace_tags(connection, changed)
    return changed


def not_found(name: ResourceName, field: str = "name") -> StrongroomError:
    """There is no key, or alias, of this name."""
    reason = Reason.ALIAS_NOT_FOUND if name.collection == "aliases" else Reason.KEY_NOT_FOUND
    return StrongroomError(reason, f"there is no {name}", field=field)


def _unknown(name: ResourceName) -> Resource:
    return Resource("Alias" if name.collection == "aliases" else "Key", str(name), name.account)
