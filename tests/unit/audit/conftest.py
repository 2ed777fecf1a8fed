"""A log in a database of its own, whose keys are wrapped by a stand-in for crypto."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.audit.logs.logs import OpenLog
from services.runtime.config import Database
from services.runtime.storage import database
from tests.support import databases
from tests.support.audit_logs import OwnRoot, opened


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/audit.db"


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = database.open_database(Database(url=database_url))
    databases.migrate(engine, "audit")
    yield engine
    engine.dispose()


@pytest.fixture
def crypto() -> OwnRoot:
    return OwnRoot()


@pytest.fixture
def open_again(engine: Engine, crypto: OwnRoot) -> Iterator[Callable[[], OpenLog]]:
    """Opens the log as a process that starts does; each is stopped in the end."""
    running: list[OpenLog] = []

    def open_one() -> OpenLog:
        running.append(opened(engine, crypto))
        return running[-1]

    yield open_one
    for log in running:
        log.stop()


@pytest.fixture
def open_log(open_again: Callable[[], OpenLog]) -> OpenLog:
    return open_again()
