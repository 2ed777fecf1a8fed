"""Which keys aliases stood for before they were deleted: SQL and nothing else."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from services.keystore.store import store
from services.keystore.store.model import Alias, Key
from services.keystore.store.tables import deleted_aliases
from services.runtime.requests.names import ResourceName
from services.runtime.storage import sealed_rows


def remember(connection: Connection, deleted: Alias) -> None:
    """Notes which key an alias stood for that is being deleted."""
    named = {"account": deleted.name.account, "alias_id": deleted.name.id}
    connection.execute(delete(deleted_aliases).filter_by(**named))
    sealed_rows.insert(connection, deleted_aliases, [{**named, "key_uid": deleted.key_uid}])


def key_before(connection: Connection, name: ResourceName) -> Key | None:
    """The key that an alias of this name stood for when it was last deleted; None when there never was one."""
    found = select(deleted_aliases).filter_by(account=name.account, alias_id=name.id)
    row = connection.execute(found).one_or_none()
    if row is None:
        return None
    sealed_rows.require(connection, deleted_aliases, row, name)
    return store.key_by_uid(connection, row.key_uid)
