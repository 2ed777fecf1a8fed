"""What callers do with aliases."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from services.keystore.keys.editing import REQUEST_IDS, not_found
from services.keystore.store import alias_store, changes, deleted_aliases, store
from services.keystore.store.model import Alias, Key
from services.runtime.access.authorization import Authorizer, Resource, account_resource
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError, invalid
from services.runtime.requests.names import ResourceName, parse
from services.runtime.storage.database import reading
from services.runtime.storage.editing import UNCHANGED, Edits, Unchanged, permitted, require_current
from services.runtime.storage.outbox import Outbox
from services.runtime.storage.request_ids import Repeatable
from services.runtime.storage.rights import Rights
from services.runtime.storage.sql_filters import Condition
from strongroom.keystore.v1.key_pb2 import KEY_STATE_DESTROYED
from strongroom.keystore.v1.key_record_service_pb2 import CHANGE_KIND_ALIAS

_MAX_ALIASES = 50


@dataclass(frozen=True, slots=True)
class AliasContent:
    """What a caller asks an alias to be."""

    name: ResourceName
    key: ResourceName
    description: str


class Aliases:
    """The aliases of all accounts."""

    def __init__(self, engine: Engine, authorizer: Authorizer, outbox: Outbox, clock: Clock) -> None:
        self._engine = engine
        self._authorizer = authorizer
        self._edits = Edits(engine, outbox, clock)

    def create(self, call: Call, new: AliasContent, repeatable: Repeatable | None = None) -> Alias:
        """A new alias. Raises ALREADY_EXISTS, REQUEST_ID_REUSED, KEY_NOT_FOUND, KEY_STATE_INVALID for a destroyed key,
        LIMIT_EXCEEDED."""
        action = "keystore:CreateAlias"
        self._authorizer.authorize(call, action, account_resource(new.name.account)).resource = str(new.name)
        self._permitted_key(call, action, new.key)
        rights = self._rights(call, "keystore:UpdateAlias", new.name)
        with reading(self._engine) as connection:
            needed = _for_another_key(connection, new)
        rights.ask(needed)
        return rights.exercise(
            lambda: self._make(
                call, new, repeatable, lambda connection: rights.require(_for_another_key(connection, new))
            )
        )

    def make(self, call: Call, new: AliasContent, repeatable: Repeatable | None = None) -> Alias:
        """Makes an alias for a call that was permitted before, whatever it stood for. Raises as `create` does."""
        return self._make(call, new, repeatable, lambda _: None)

    def _make(
        self, call: Call, new: AliasContent, repeatable: Repeatable | None, check: Callable[[Connection], None]
    ) -> Alias:
        account = new.name.account

        def made_before(connection: Connection, now_us: int) -> Alias | None:
            made = REQUEST_IDS.made_before(connection, account, repeatable, now_us)
            if made is None:
                return None
            name = parse(made, "request_id", "aliases")
            return _require_alias(alias_store.alias(connection, name), name, "request_id")

        def make(connection: Connection, now_us: int) -> Alias:
            key = _require_key(store.key(connection, new.key), new.key)
            revision = changes.note(connection, CHANGE_KIND_ALIAS, str(new.name), account, key.uid)
            _require_room(connection, key)
            check(connection)
            before = deleted_aliases.key_before(connection, new.name)
            if before is not None and before.state != KEY_STATE_DESTROYED:
                _require_alike(key, before)
            alias = Alias(new.name, new.key, key.uid, new.description, revision, now_us, now_us)
            alias_store.insert_alias(connection, alias)
            REQUEST_IDS.remember(connection, account, repeatable, str(new.name), now_us)
            return alias

        try:
            return self._edits.add(call, made_before, make)
        except IntegrityError:
            raise StrongroomError(Reason.ALREADY_EXISTS, f"{new.name} exists already", field="alias_id") from None

    def get(self, call: Call, name: ResourceName) -> Alias:
        """An alias. Raises ALIAS_NOT_FOUND."""
        return self._permitted(call, "keystore:GetAlias", name)

    def page(self, call: Call, account: str, after: str, limit: int, conditions: Sequence[Condition]) -> list[Alias]:
        """An account's aliases that meet the conditions, in the order of their ids, from the first behind `after`."""
        self._authorizer.authorize(call, "keystore:ListAliases", account_resource(account))
        with reading(self._engine) as connection:
            return alias_store.aliases_page(connection, account, after, limit, conditions)

    def update(self, call: Call, wanted: AliasContent, paths: Collection[str], etag: str) -> Alias:
        """Changes what `paths` names of `key` and `description`. Raises ALIAS_NOT_FOUND, KEY_NOT_FOUND, ETAG_MISMATCH,
        FIELD_INVALID for a key of another spec or usage, KEY_STATE_INVALID for a destroyed one, and LIMIT_EXCEEDED."""
        action = "keystore:UpdateAlias"
        seen = self._permitted(call, action, wanted.name)
        moves = "key" in paths and wanted.key != seen.key
        if moves:
            self._permitted_key(call, action, seen.key)
            self._permitted_key(call, action, wanted.key)

        def change(connection: Connection, present: Alias, _now_us: int) -> Alias | Unchanged:
            if "key" in paths and present.key != seen.key:
                # Permission was asked for the key that it stood for then.
                raise StrongroomError(Reason.OVERLOADED, f"{present.name} was changed by another call: try again")
            changed = replace(present, description=wanted.description) if "description" in paths else present
            if moves:
                of_before = _require_key(store.key_by_uid(connection, present.key_uid), present.key)
                key = _require_alike(_require_key(store.key(connection, wanted.key), wanted.key), of_before)
                changed = replace(changed, key=key.name, key_uid=key.uid)
            return UNCHANGED if changed == present else changed

        return self._edits.edit(call, partial(_locked, name=wanted.name, etag=etag), change, _write)

    def delete(self, call: Call, name: ResourceName, etag: str) -> None:
        """Deletes an alias, and nothing of its key. Raises ALIAS_NOT_FOUND, ETAG_MISMATCH."""
        action = "keystore:DeleteAlias"
        rights = self._rights(call, action)
        rights.ask([self._permitted(call, action, name).key])

        def remove(connection: Connection, alias: Alias) -> None:
            rights.require([alias.key])
            changes.note(connection, CHANGE_KIND_ALIAS, str(name), name.account, alias.key_uid)
            alias_store.delete_alias(connection, name)
            deleted_aliases.remember(connection, alias)

        lock = partial(_locked, name=name, etag=etag)
        rights.exercise(lambda: self._edits.remove(call, lock, remove))

    def _rights(self, call: Call, action: str, alias: ResourceName | None = None) -> Rights[ResourceName]:
        """Those on keys that an alias stands for, or is to, and first on the `alias`."""

        def permit(keys: Sequence[ResourceName]) -> None:
            if alias is not None:
                self._authorizer.authorize(call, action, Resource("Alias", str(alias), alias.account))
            for key in keys:
                self._permitted_key(call, action, key)

        return Rights(permit)

    def _permitted(self, call: Call, action: str, name: ResourceName) -> Alias:
        with reading(self._engine) as connection:
            alias = alias_store.alias(connection, name)
        authorize = partial(self._authorizer.authorize, call, action)
        absent = Resource("Alias", str(name), name.account)
        return permitted(alias, absent, authorize, lambda: not_found(name))[1]

    def _permitted_key(self, call: Call, action: str, name: ResourceName) -> None:
        with reading(self._engine) as connection:
            key = store.key(connection, name)
        self._authorizer.authorize(call, action, key.resource if key else Resource("Key", str(name), name.account))
        _require_key(key, name)


def _for_another_key(connection: Connection, new: AliasContent) -> list[ResourceName]:
    """The keys that need to be permitted where a new alias, before it was deleted, stood for another that still is
    there: to make it anew is to change it."""
    before = deleted_aliases.key_before(connection, new.name)
    if before is None or before.name == new.key or before.state == KEY_STATE_DESTROYED:
        return []
    return [before.name, new.key]


def _require_key(key: Key | None, name: ResourceName) -> Key:
    if key is None:
        raise not_found(name, "alias.key")
    return key


def _require_alias(alias: Alias | None, name: ResourceName, field: str = "name") -> Alias:
    if alias is None:
        raise not_found(name, field)
    return alias


def _locked(connection: Connection, *, name: ResourceName, etag: str) -> Alias:
    alias = _require_alias(alias_store.alias(connection, name, lock=True), name)
    require_current(name, alias.revision, etag)
    return alias


def _write(connection: Connection, present: Alias, wanted: Alias, now_us: int) -> Alias:
    account = present.name.account
    revision = changes.note(connection, CHANGE_KIND_ALIAS, str(present.name), account, present.key_uid)
    if wanted.key_uid != present.key_uid:
        _require_room(connection, _require_key(store.key_by_uid(connection, wanted.key_uid), wanted.key))
    changed = replace(wanted, revision=revision, updated_us=now_us)
    alias_store.update_alias(connection, changed)
    return changed


def _require_room(connection: Connection, key: Key) -> None:
    """Refuses one alias more. Whoever asks has numbered the change: nobody adds another before the transaction ends."""
    if key.state == KEY_STATE_DESTROYED:
        raise StrongroomError(
            Reason.KEY_STATE_INVALID, f"{key.name} is DESTROYED", field="alias.key", state="DESTROYED"
        )
    if alias_store.count_aliases(connection, key.uid) >= _MAX_ALIASES:
        raise StrongroomError(
            Reason.LIMIT_EXCEEDED, f"{key.name} has {_MAX_ALIASES} aliases already", field="alias.key"
        )


def _require_alike(key: Key, present: Key) -> Key:
    if (key.spec, key.usage) != (present.spec, present.usage):
        raise invalid("alias.key", "is a key of another spec or usage than the alias's present one")
    return key
