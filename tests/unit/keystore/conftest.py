"""A keystore database of each test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.runtime.config import Database
from services.runtime.storage.database import open_database
from tests.support import databases
from tests.support.sealing import sealed


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """SQLite, at this release's schema."""
    engine = sealed(open_database(Database(url=f"sqlite:///{tmp_path / 'keystore.db'}")))
    databases.migrate(engine, "keystore")
    yield engine
    engine.dispose()
