"""Client keys in the database: SQL and nothing else. What is read was verified: functions that read raise
ACCESS_RECORD_REFUSED for what keystore did not write."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, false, func, select, update

from services.keystore.access.records import contents
from services.keystore.access.records.resources import ClientKey, account_of, id_of
from services.keystore.access.records.store import SESSION_US
from services.keystore.access.records.tables import client_keys
from services.runtime.storage import sealed_rows
from services.runtime.storage.sql_filters import Condition

_LIVING = client_keys.c.deleted_us.is_(None)


def client_key(connection: Connection, name: str) -> ClientKey | None:
    """The client key of this name, unless it was deleted."""
    row = connection.execute(select(client_keys).where(_is(name), _LIVING)).one_or_none()
    return _client_key(connection, row) if row is not None else None


def credential(connection: Connection, name: str) -> ClientKey | None:
    """The client key of this name, unless it was deleted, or is not what keystore wrote: nobody comes in with that."""
    rows = connection.execute(select(client_keys).where(_is(name), _LIVING)).all()
    return next((_client_key(connection, row) for row in sealed_rows.good(connection, client_keys, rows)), None)


def client_keys_page(
    connection: Connection, account: str, after: str, limit: int, conditions: Sequence[Condition]
) -> list[ClientKey]:
    """An account's client keys that meet the conditions, in the order of their ids, from the first behind `after`."""
    met = [condition(connection.dialect.name) for condition in conditions]
    living = (client_keys.c.account == account, client_keys.c.client_key_id > after, _LIVING)
    ordered = select(client_keys).where(*living, *met).order_by(client_keys.c.client_key_id)
    return [_client_key(connection, row) for row in connection.execute(ordered.limit(limit)).all()]


def client_keys_rotated_by(connection: Connection, principal: str, secret: str) -> list[ClientKey]:
    """The client keys of a principal that rotations of a secret made."""
    made = select(client_keys).where(client_keys.c.principal == principal, client_keys.c.rotated_by == secret, _LIVING)
    rows = connection.execute(made.order_by(client_keys.c.client_key_id)).all()
    return [_client_key(connection, row) for row in rows]


def count_active(connection: Connection, principal: str, now_us: int, besides: Collection[str] = ()) -> int:
    """How many client keys of a principal are neither disabled nor expired, besides some by name."""
    active = (client_keys.c.disabled == false(), client_keys.c.expires_us > now_us, _LIVING)
    others = client_keys.c.client_key_id.not_in([id_of(name) for name in besides])
    counted = select(func.count()).where(client_keys.c.principal == principal, others, *active)
    return int(connection.execute(counted).scalar_one())


def insert_client_key(connection: Connection, added: ClientKey) -> None:
    """Adds a client key."""
    row = {
        "account": account_of(added.name),
        "client_key_id": id_of(added.name),
        "principal": added.principal,
        "secret_sha256": added.secret_sha256,
        "description": added.description,
        "disabled": added.disabled,
        "revision": added.revision,
        "created_us": added.created_us,
        "expires_us": added.expires_us,
        "rotated_by": added.rotated_by,
    }
    contents.insert(connection, account_of(added.name), client_keys, [row])


def update_client_key(connection: Connection, changed: ClientKey) -> None:
    """Puts what may change of a client key in the place of what it was."""
    values = {"description": changed.description, "disabled": changed.disabled, "revision": changed.revision}
    contents.update(connection, account_of(changed.name), client_keys, [_is(changed.name)], values)


def note_use(connection: Connection, name: str, now_us: int) -> None:
    """Remembers when a client key was last used."""
    connection.execute(update(client_keys).where(_is(name)).values(used_us=now_us))


def delete_client_key(connection: Connection, name: str, now_us: int) -> None:
    """Ends a client key, and forgets those that ended so long ago that no session of theirs can be left."""
    contents.update(connection, account_of(name), client_keys, [_is(name)], {"deleted_us": now_us})
    _forget(connection, account_of(name), now_us)


def delete_client_keys_of(connection: Connection, principal: str, now_us: int) -> None:
    """Ends every client key of a principal, and forgets those that ended long ago."""
    of_principal = (client_keys.c.principal == principal, _LIVING)
    contents.update(connection, account_of(principal), client_keys, of_principal, {"deleted_us": now_us})
    _forget(connection, account_of(principal), now_us)


def _forget(connection: Connection, account: str, now_us: int) -> None:
    ended = (client_keys.c.account == account, client_keys.c.deleted_us < now_us - SESSION_US)
    contents.delete(connection, account, client_keys, ended)


def _is(name: str) -> Any:
    return and_(client_keys.c.account == account_of(name), client_keys.c.client_key_id == id_of(name))


def _client_key(connection: Connection, row: Row[Any]) -> ClientKey:
    name = f"accounts/{row.account}/clientKeys/{row.client_key_id}"
    sealed_rows.require(connection, client_keys, row, name)
    return ClientKey(
        name,
        row.principal,
        row.secret_sha256,
        row.description,
        row.expires_us,
        row.disabled,
        row.used_us,
        row.rotated_by,
        row.revision,
        row.created_us,
    )
