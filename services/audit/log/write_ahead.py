"""Keeps SQLite's write-ahead log short without holding up appends.

Left to itself SQLite moves the write-ahead log's pages into the database file within the commit that makes it long:
whoever appends then waits for megabytes to be written and synced. Here a thread of its own does that beside the
appends, and only for the last few pages is nothing appended, so that the next append begins the file anew.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError

from services.audit.log.sequencer import Log
from services.runtime.background import Background

_LOOK_SECONDS = 0.5
# 16 MiB: how long the file may become before the appends are asked to wait for its last pages.
_LONG_PAGES = 4096
_FEW_PAGES = 128
_TRIES = 4


class WriteAheadLog:
    """Of one log's database; one that is not SQLite's needs nothing of this."""

    def __init__(self, engine: Engine, source: Log) -> None:
        self._engine = engine
        self._log = source
        self._seen = source.size
        self._work = Background(
            "audit-write-ahead",
            self._move_when_grown,
            "pages of the write-ahead log could not be moved into the database",
            every=_LOOK_SECONDS,
            first=_LOOK_SECONDS,
            foreseen=(sqlite3.Error, SQLAlchemyError),
        )

    def start(self) -> None:
        """From now on no commit moves pages, and the thread does."""
        if self._engine.dialect.name == "sqlite":
            if not event.contains(self._engine, "connect", _leave_pages):
                event.listen(self._engine, "connect", _leave_pages)
            # Connections that are open already.
            self._engine.dispose()
            self._work.start()

    def stop(self) -> None:
        """Ends."""
        self._work.stop()

    def move(self) -> None:
        """Moves what there is into the database file."""
        long, left = self._moved()
        for _ in range(_TRIES):
            if left <= _FEW_PAGES:
                break
            long, left = self._moved()
        if long > _LONG_PAGES:
            self._log.exclusively(self._moved)

    def _move_when_grown(self) -> None:
        size = self._log.size
        if size != self._seen:
            self.move()
            self._seen = size

    def _moved(self) -> tuple[int, int]:
        """Moves pages as far as nobody reads older ones; how many the file has, and how many are left to be moved."""
        with self._engine.connect() as connection:
            # By the driver: SQLAlchemy would begin a transaction.
            driver: Any = connection.connection.driver_connection
            _, pages, moved = driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return pages, pages - moved


def _leave_pages(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA wal_autocheckpoint=0")
