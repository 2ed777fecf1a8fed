"""Seals the rows of a database from before there were seals, as they are: what was changed in them until then stays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Table, and_, select, update

from services.runtime.storage import row_seals
from services.runtime.storage.row_seals import SEAL
from services.secrets.core import store
from services.secrets.core.tables import attempts, changes, requests, rotations, secrets, stages, versions

_AT_ONCE = 500


def seal_all(connection: Connection) -> int:
    """Seals every row; how many they were."""
    seals = row_seals.of(connection)
    count = 0
    for table in (versions, requests, rotations, attempts, changes):
        for row in _rows(connection, table):
            _write(connection, table, row, {SEAL: seals.seal(table, row)})
            count += 1
    for row in _rows(connection, secrets):
        of_secret = {"account": row["account"], "secret_id": row["secret_id"]}
        present = select(versions.c.version, versions.c.revision).where(versions.c.sealed.is_not(None))
        standing = {number: at for number, at in connection.execute(_of(present, versions, of_secret))}  # noqa: C416
        staged = _of(select(stages.c.stage, stages.c.version), stages, of_secret)
        at = {stage: number for stage, number in connection.execute(staged)}  # noqa: C416  # rows to the type checker
        changed = {"standing": json.dumps(standing, sort_keys=True)}
        _write(
            connection,
            secrets,
            row,
            {**changed, SEAL: store.seal_of_secret(connection, {**row, **changed}, at)},
        )
        count += 1
    return count


def _rows(connection: Connection, table: Table) -> Iterator[Mapping[str, Any]]:
    """Every row, without values as large as a secret's."""
    columns = [column for column in table.c if column.name not in (SEAL, "sealed")]
    keys = list(table.primary_key.columns)
    found = connection.execute(select(*columns).order_by(*keys)).mappings()
    while page := found.fetchmany(_AT_ONCE):
        yield from [dict(row) for row in page]


def _write(connection: Connection, table: Table, row: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    this = and_(*(column == row[column.name] for column in table.primary_key.columns))
    connection.execute(update(table).where(this).values(**values))


def _of(query: Any, table: Table, of_secret: Mapping[str, Any]) -> Any:
    return query.where(*(table.c[name] == value for name, value in of_secret.items()))
