"""Notices that a database goes on from an earlier point than it was at, as after a promotion that lost the last
commits: whoever follows its changes by number has seen some that there are not, and may miss those in their place."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sqlalchemy import Connection, Engine, Table, func, select, text, update

from services.runtime.background import Background
from services.runtime.storage.database import reading, transaction

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
# The timeline, which every promotion and every restore by log begins anew; PostgreSQL names its log's files by it.
_TIMELINE = "SELECT system_identifier || ' ' || left(pg_walfile_name(pg_current_wal_lsn()), 8) FROM pg_control_system()"


class History:
    """Looks once a second which history a PostgreSQL is on. SQLite has no other process that could put it back."""

    def __init__(self, engine: Engine, start_over: Callable[[Connection], None], kept: Table | None = None) -> None:
        """`start_over` has everybody who follows changes begin anew, in a transaction. `kept` is a table of one row
        whose column `history` says which history its changes are of: a process that begins after the database was put
        back knows by it. Without it a process knows what it has seen itself."""
        self._engine = engine
        self._start_over = start_over
        self._kept = kept
        self._known = ""
        self._looking = Background(
            "history",
            self.look,
            "it could not be found out whether the database was put back",
            every=_LOOK_SECONDS,
            quiet=True,
        )

    def start(self) -> None:
        """Begins to look."""
        if self._engine.dialect.name == "postgresql":
            self._looking.start()

    def stop(self) -> None:
        """Ends."""
        self._looking.stop()

    def look(self) -> None:
        """Looks once."""
        with reading(self._engine) as connection:
            found = str(connection.execute(text(_TIMELINE)).scalar_one())
            known = self._known_of(connection)
        if found == known:
            return
        with transaction(self._engine) as connection:
            # One of several processes does it, for all of them.
            if self._keep(connection, known, found) and known:
                log.warning("the database is on another history than before; whoever follows its changes starts over")
                self._start_over(connection)
        self._known = found

    def _known_of(self, connection: Connection) -> str:
        if self._kept is None:
            return self._known
        return connection.execute(select(self._kept.c.history)).scalar_one() or ""

    def _keep(self, connection: Connection, known: str, found: str) -> bool:
        if self._kept is None:
            return True
        same = func.coalesce(self._kept.c.history, "") == known
        return connection.execute(update(self._kept).where(same).values(history=found)).rowcount == 1
