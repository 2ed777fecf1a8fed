"""Databases of this release, copied from one that was migrated once: to migrate takes longer than most tests."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from sqlalchemy import Engine

from services.runtime.config import Database
from services.runtime.storage import migrations
from services.runtime.storage.database import open_database


def migrate(engine: Engine, service: str) -> None:
    """Gives the database of a service, in which there is nothing yet, its tables."""
    if engine.dialect.name != "sqlite":
        migrations.migrate(engine, service)
        return
    path = Path(str(engine.url.database))
    assert not path.exists(), f"{path} is there already"
    path.write_bytes(empty_database(service))


@cache
def empty_database(service: str) -> bytes:
    """A file of SQLite with a service's tables, and nothing in them."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"{service}.db"
        engine = open_database(Database(url=f"sqlite:///{path}"))
        migrations.migrate(engine, service)
        engine.dispose()
        return path.read_bytes()
