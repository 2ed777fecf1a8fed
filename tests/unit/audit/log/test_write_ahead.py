"""SQLite's write-ahead log: no append waits while it is shortened, and it stays short."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.audit.log import write_ahead
from services.audit.log.sequencer import Log
from services.audit.storage.store import LogStore
from tests.support.audit_logs import OwnRoot, event, opened

# SQLite by itself would shorten it after 1,000 pages of 4 KiB.
SHORTENED_BY_SQLITE = 4_096_000


def append(log: Log, groups: int) -> None:
    for _ in range(groups):
        log.append([event(reason="x" * 4_000) for _ in range(50)])


def test_appends_leave_the_pages_to_the_thread_beside_them(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_ahead, "_LOOK_SECONDS", 3600.0)
    monkeypatch.setattr(write_ahead, "_LONG_PAGES", 500)
    log = opened(engine, OwnRoot(), interval_seconds=3600.0)
    file, ahead = tmp_path / "audit.db", tmp_path / "audit.db-wal"
    log._write_ahead.move()
    before = file.stat().st_size
    append(log.log, 45)
    assert file.stat().st_size == before
    long = ahead.stat().st_size
    assert long > SHORTENED_BY_SQLITE
    log._write_ahead.move()
    assert file.stat().st_size > before + SHORTENED_BY_SQLITE
    append(log.log, 10)
    # Begun anew: the file is not longer than it was.
    assert ahead.stat().st_size == long
    assert LogStore(engine).head().size == 2_750
    log.stop()


def test_a_reader_of_an_older_view_keeps_its_pages_and_nobody_waits(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_ahead, "_LOOK_SECONDS", 3600.0)
    monkeypatch.setattr(write_ahead, "_LONG_PAGES", 1)
    log = opened(engine, OwnRoot())
    append(log.log, 1)
    with engine.connect() as reader:
        seen = reader.exec_driver_sql("SELECT count(*) FROM leaves").scalar_one()
        append(log.log, 1)
        log._write_ahead.move()
        append(log.log, 1)
        assert reader.exec_driver_sql("SELECT count(*) FROM leaves").scalar_one() == seen == 50
    log._write_ahead.move()
    assert LogStore(engine).head().size == 150
    log.stop()
