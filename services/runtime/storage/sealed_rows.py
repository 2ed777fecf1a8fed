"""Rows of sealed tables as they are written and read: what is written is sealed, what is read is verified.

A change never makes a row good that was not: what somebody else wrote stays refused, whatever is changed beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sql
from sqlalchemy import ColumnElement, Connection, Row, RowMapping, Table, and_, select

from services.runtime.errors import Reason
from services.runtime.storage import row_seals
from services.runtime.storage.database import writes
from services.runtime.storage.row_seals import SEAL
from services.runtime.storage.row_sets import SetKeys

_AT_ONCE = 500


def insert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Adds rows; columns that they do not name are null. Raises IntegrityError as inserting does."""
    if rows:
        connection.execute(_addition(table), sealed(connection, table, rows))


def sealed(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows as they are to be added, with every column and their seals."""
    seals = row_seals.of(connection)
    whole = ({**dict.fromkeys(table.c.keys()), **row} for row in rows)
    return [{**row, SEAL: seals.seal(table, row)} for row in whole]


def update(
    connection: Connection, table: Table, where: Sequence[ColumnElement[bool]], values: Mapping[str, Any]
) -> int:
    """Changes rows, which nobody else does until the transaction ends; how many they were."""
    return len(replaced(connection, table, where, values))


def replaced(
    connection: Connection, table: Table, where: Sequence[ColumnElement[bool]], values: Mapping[str, Any]
) -> list[tuple[object, object]]:
    """Changes rows likewise; their seals before and after."""
    found = connection.execute(select(table).where(*where).with_for_update()).mappings().all()
    seals, exchanged = row_seals.of(connection), []
    for row in found:
        changed = dict(values)
        if seals.is_good(table, row):
            changed[SEAL] = seals.seal(table, {**row, **values})
        connection.execute(sql.update(table).where(_is(table, row)).values(changed))
        exchanged.append((row[SEAL], changed.get(SEAL, row[SEAL])))
    return exchanged


def removed(connection: Connection, table: Table, where: Sequence[ColumnElement[bool]]) -> list[object]:
    """Takes rows away; their seals."""
    seals = list(connection.execute(select(table.c[SEAL]).where(*where)).scalars())
    if seals:
        connection.execute(sql.delete(table).where(*where))
    return seals


def is_good(connection: Connection, table: Table, row: Row[Any]) -> bool:
    """Whether a row, which has every column of its table, is as the service wrote it."""
    return row_seals.of(connection).is_good(table, row._mapping)


def good(connection: Connection, table: Table, rows: Iterable[Row[Any]]) -> Iterator[Row[Any]]:
    """The rows that are as the service wrote them."""
    seals = row_seals.of(connection)
    return (row for row in rows if seals.is_good(table, row._mapping))


def require(connection: Connection, table: Table, row: Row[Any], name: object, reason: Reason | None = None) -> None:
    """Raises the reason, or else the seals' own, for a row that is not as the service wrote it; `name` is what it is
    of."""
    row_seals.of(connection).verify(table, row._mapping, name, reason=reason)


def require_newest(connection: Connection, name: object, revision: int, reason: Reason | None = None) -> None:
    """Raises the same for what is older than this process saw it some time ago."""
    # What a transaction reads of its own may never be committed.
    remember = not writes(connection)
    row_seals.of(connection).require_newest(name, revision, remember=remember, reason=reason)


def set_keys(connection: Connection) -> SetKeys:
    """What sums of the database's rows are made with."""
    return SetKeys(row_seals.of(connection).key)


def digest(seals: Iterable[object]) -> bytes:
    """Of a set of rows, by their seals: a row more or less, or an older one, makes it another."""
    return hashlib.sha256(b"".join(sorted(map(row_seals.seal_bytes, seals)))).digest()


def seal_all(connection: Connection, table: Table) -> int:
    """Seals a table's rows as they stand; how many they were."""
    seals, count = row_seals.of(connection), 0
    found = connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()
    for row in [dict(row) for page in found.partitions(_AT_ONCE) for row in page]:
        values = {SEAL: seals.seal(table, row)}
        connection.execute(sql.update(table).where(_is(table, row)).values(values))
        count += 1
    return count


@cache
def _addition(table: Table) -> sql.Insert:
    return sql.insert(table)


def _is(table: Table, row: Mapping[str, Any] | RowMapping) -> ColumnElement[bool]:
    return and_(*(column == row[column.name] for column in table.primary_key.columns))
