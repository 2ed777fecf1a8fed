"""Aliases in the database: SQL and nothing else. Every function works inside its caller's transaction.

What is read was verified (services/runtime/storage/sealed_rows.py): every function that reads raises
ACCESS_RECORD_REFUSED for what keystore did not write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, select

from services.keystore.store.model import Alias
from services.keystore.store.tables import aliases, keys
from services.runtime.requests.names import ResourceName
from services.runtime.storage import sealed_rows
from services.runtime.storage.sql_filters import Condition

_KEY_ID = "id of the key"
_aliases_with_keys = select(aliases, keys.c.key_id.label(_KEY_ID)).join_from(
    aliases, keys, aliases.c.key_uid == keys.c.uid
)


def alias(connection: Connection, name: ResourceName, *, lock: bool = False) -> Alias | None:
    """An alias; with `lock` nobody else changes it before the transaction ends."""
    wanted = _aliases_with_keys.where(_alias_is(name))
    row = connection.execute(wanted.with_for_update(of=aliases) if lock else wanted).one_or_none()
    return _alias(connection, row) if row is not None else None


def aliases_page(
    connection: Connection, account: str, after: str, limit: int, conditions: Sequence[Condition] = ()
) -> list[Alias]:
    """An account's aliases that meet the conditions, in the order of their ids, from the first behind `after`."""
    met = [condition(connection.dialect.name) for condition in conditions]
    ordered = _aliases_with_keys.where(aliases.c.account == account, aliases.c.alias_id > after, *met)
    rows = connection.execute(ordered.order_by(aliases.c.alias_id).limit(limit)).all()
    return [_alias(connection, row) for row in rows]


def count_aliases(connection: Connection, key_uid: bytes) -> int:
    """How many aliases a key has."""
    return int(connection.execute(select(func.count()).where(aliases.c.key_uid == key_uid)).scalar_one())


def insert_alias(connection: Connection, added: Alias) -> None:
    """Adds an alias. Raises IntegrityError when the name is taken."""
    row = {
        "account": added.name.account,
        "alias_id": added.name.id,
        "key_uid": added.key_uid,
        "description": added.description,
        "revision": added.revision,
        "created_us": added.created_us,
        "updated_us": added.updated_us,
    }
    sealed_rows.insert(connection, aliases, [row])


def update_alias(connection: Connection, changed: Alias) -> None:
    """Puts an alias in the place of what it was."""
    values = {
        "key_uid": changed.key_uid,
        "description": changed.description,
        "revision": changed.revision,
        "updated_us": changed.updated_us,
    }
    sealed_rows.update(connection, aliases, [_alias_is(changed.name)], values)


def delete_alias(connection: Connection, name: ResourceName) -> None:
    """Removes an alias."""
    connection.execute(delete(aliases).where(_alias_is(name)))


def _alias_is(name: ResourceName) -> ColumnElement[bool]:
    return and_(aliases.c.account == name.account, aliases.c.alias_id == name.id)


def _alias(connection: Connection, row: Row[Any]) -> Alias:
    name = ResourceName(row.account, "aliases", row.alias_id)
    sealed_rows.require(connection, aliases, row, name)
    return Alias(
        name,
        ResourceName(row.account, "keys", row._mapping[_KEY_ID]),
        row.key_uid,
        row.description,
        row.revision,
        row.created_us,
        row.updated_us,
    )
