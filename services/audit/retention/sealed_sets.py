"""Tables whose rows audit seals like other services do theirs, each as a set: a row that was changed, added, taken away
or put back is refused before anything is done by it.

The key is wrapped by crypto, and made when the log is new. Where it is missing later, somebody has taken it away.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, Table, delete, select

from services.audit.keys.service_keys import RECORD_KEY, ServiceKeys
from services.audit.storage.tables import legal_holds, retention_policies, sealed_sets
from services.runtime.errors import Reason, StrongroomError
from services.runtime.sensitive import SensitiveBytes
from services.runtime.storage import row_seals, sealed_rows
from services.runtime.storage.database import reading, transaction
from services.runtime.storage.row_seals import RowSeals

_SETS = (retention_policies, legal_holds)
_KEY_BYTES = 32


class SealedSets:
    """Of one log. Reading and writing raise RECORD_KEY_UNAVAILABLE until crypto has provided the key, and
    AUDIT_RECORD_REFUSED for a set that is not as the service wrote it."""

    def __init__(self, engine: Engine, service_keys: ServiceKeys, is_new: Callable[[], bool]) -> None:
        """`is_new`: whether the log never had an event."""
        self._seals = RowSeals(Reason.AUDIT_RECORD_REFUSED)
        self.engine = row_seals.sealed(engine, self._seals)
        """The database, through which these tables are to be read and written."""
        self._service_keys = service_keys
        self._is_new = is_new
        self._is_open = False
        self._missing = False

    def renew(self) -> None:
        """Gets the key, or makes it where the log is new; notes where it is missing. Raises what `RootWrapping`
        does."""
        if self._is_open:
            return
        key = self._service_keys.found(RECORD_KEY)
        if key is None and self._is_new():
            key = SensitiveBytes(os.urandom(_KEY_BYTES))
            # Before the key is known: a process that dies between leaves nothing that another would trust.
            self._begin(key)
            self._service_keys.make(RECORD_KEY, key)
        self._missing = key is None
        if key is not None:
            self._seals.open(key)
            self._is_open = True

    def check(self) -> None:
        """Raises as reading does, whatever is wrong with any of the sets."""
        if self._is_open or self._missing:
            with reading(self.engine) as connection:
                for table in _SETS:
                    self.rows(connection, table)

    def rows(self, connection: Connection, table: Table) -> Sequence[Row[Any]]:
        """A table's rows."""
        self._require_key()
        rows = connection.execute(select(table)).all()
        known = connection.execute(select(sealed_sets).where(sealed_sets.c.name == table.name)).one_or_none()
        if known is None or known.digest != sealed_rows.digest(row.seal for row in rows):
            raise row_seals.of(connection).refused(_said(table))
        for row in rows:
            sealed_rows.require(connection, table, row, _said(table))
        sealed_rows.require(connection, sealed_sets, known, _said(table))
        sealed_rows.require_newest(connection, _said(table), known.revision)
        return rows

    def put(self, connection: Connection, table: Table, this: ColumnElement[bool], row: Mapping[str, Any]) -> None:
        """Puts a row in the place of `this`."""
        self.rows(connection, table)
        connection.execute(delete(table).where(this))
        sealed_rows.insert(connection, table, [row])
        of_table = sealed_sets.c.name == table.name
        revision = connection.execute(select(sealed_sets.c.revision).where(of_table)).scalar_one()
        sealed_rows.update(connection, sealed_sets, [of_table], _whole(connection, table, revision + 1))

    def _begin(self, key: SensitiveBytes) -> None:
        seals = RowSeals(Reason.AUDIT_RECORD_REFUSED)
        seals.open(key)
        with transaction(row_seals.sealed(self.engine, seals)) as connection:
            for table in (*_SETS, sealed_sets):
                connection.execute(delete(table))
            sets = [{"name": table.name, **_whole(connection, table, 1)} for table in _SETS]
            sealed_rows.insert(connection, sealed_sets, sets)

    def _require_key(self) -> None:
        if self._missing:
            raise StrongroomError(
                Reason.AUDIT_RECORD_REFUSED,
                "the key that retention policies and legal holds are sealed with is missing from audit's database, or"
                " was changed there: put its row of service_keys back from a backup",
            )
        self._seals.check()


def _whole(connection: Connection, table: Table, revision: int) -> Mapping[str, Any]:
    seals = connection.execute(select(table.c.seal)).scalars().all()
    return {"digest": sealed_rows.digest(seals), "revision": revision}


def _said(table: Table) -> str:
    return table.name.replace("_", " ")
