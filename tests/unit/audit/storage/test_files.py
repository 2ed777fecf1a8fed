"""What is stored stays what it was: files that vanish, databases rolled back, disks that fill, writers that compete."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from opentelemetry.metrics import NoOpMeterProvider
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.event import listen as event_listen

from services.audit.log import file_locks
from services.audit.log.election import FileElection
from services.audit.log.recovery import recovered
from services.audit.logs.logs import Logs, OpenLog
from services.audit.logs.storage_watch import StorageWatch
from services.audit.reading.events import Period, Query
from services.audit.storage.files import Level, Limits, Storage
from services.audit.storage.store import Head, LogStore, is_away
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage import database
from tests.support.audit_logs import OwnRoot, event, opened
from tests.support.clients import until

MIB = 1 << 20


def refusal_of(work: Callable[[], object]) -> StrongroomError:
    with pytest.raises(StrongroomError) as refused:
        work()
    return refused.value


def delete(path: Path, _backup: Path) -> None:
    path.unlink()


def replace(path: Path, backup: Path) -> None:
    backup.replace(path)


def roll_back(path: Path, backup: Path) -> None:
    """The backup's content in the very file."""
    with sqlite3.connect(backup) as old, sqlite3.connect(path) as live:
        old.backup(live)


@pytest.mark.parametrize("change", [delete, replace, roll_back])
def test_a_database_that_is_not_what_it_was_is_refused_at_the_next_append(
    open_log: OpenLog, tmp_path: Path, change: Callable[[Path, Path], None]
) -> None:
    live, backup = tmp_path / "audit.db", tmp_path / "backup.db"
    open_log.log.append([event() for _ in range(3)])
    with sqlite3.connect(live) as source, sqlite3.connect(backup) as copy:
        source.backup(copy)
    open_log.log.append([event()])
    open_log.publisher.stop()
    change(live, backup)
    for _ in range(2):
        error = refusal_of(lambda: open_log.log.append([event()]))
        assert error.reason is Reason.AUDIT_STORAGE_FAILED
        assert any(word in error.message for word in ("deleted", "another file", "rolled back"))
    assert refusal_of(open_log.log.check).reason is Reason.AUDIT_STORAGE_FAILED


def test_two_writers_have_one_index_space(open_log: OpenLog, open_again: Callable[[], OpenLog], engine: Engine) -> None:
    other = open_again()
    assert other.log.append([event()]) == [0]
    # It believes the log to be empty and its own; nothing of what it brings is written.
    assert "written by another" in refusal_of(lambda: open_log.log.append([event(), event()])).message
    assert other.log.append([event()]) == [1]
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM leaves")).scalar_one() == 2


def test_a_database_that_is_away_is_told_from_a_log_that_is_damaged(engine: Engine, open_log: OpenLog) -> None:
    with closing(sqlite3.connect(str(engine.url.database))) as other:
        other.execute("BEGIN IMMEDIATE")
        impatient = create_engine(engine.url, connect_args={"timeout": 0.05})
        event_listen(impatient, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        assert is_away(refusal_of(LogStore(impatient).take_over))
        impatient.dispose()
    open_log.log.append([event()])
    with engine.begin() as connection:
        connection.execute(text("UPDATE heads SET last_hash = x'00'"))
    assert not is_away(refusal_of(lambda: recovered(LogStore(engine))))


def candidate(engine: Engine, lost: Callable[[], None] = lambda: None) -> FileElection:
    """One that finds a writer silent after a fifth of a second."""
    return FileElection(Path(str(engine.url.database)), LogStore(engine), lost, silent_seconds=0.2)


def test_one_process_wins_an_election_and_the_next_when_it_ends(engine: Engine) -> None:
    first, second = candidate(engine), candidate(engine)
    assert first.try_to_win()
    assert not second.try_to_win()
    first.give_up()
    assert second.try_to_win()


def test_a_writer_that_hangs_is_replaced_and_finds_itself_overtaken(engine: Engine) -> None:
    lost: list[str] = []
    hung, standby, third = candidate(engine, lambda: lost.append("")), candidate(engine), candidate(engine)
    assert hung.try_to_win()
    epoch = LogStore(engine).take_over()
    hung.check()
    # It never beats again.
    until(standby.try_to_win)
    LogStore(engine).take_over()
    assert not LogStore(engine).beat(epoch, Head())
    assert refusal_of(hung.check).reason is Reason.AUDIT_UNREACHABLE
    assert lost == [""]
    standby.check()
    # The lock that counts is the newest one's, whatever becomes of the other.
    assert not third.try_to_win()
    hung.give_up()
    assert not third.try_to_win()
    standby.give_up()
    assert third.try_to_win()


def hang_in_a_transaction(url: str) -> None:
    """Stops as by SIGSTOP in the middle of an append."""
    engine = database.open_database(Database(url=url))
    assert candidate(engine).try_to_win()
    epoch = LogStore(engine).take_over()
    with LogStore(engine).appending() as connection:
        assert LogStore(engine).is_written_by(connection, epoch, Head())
        os.kill(os.getpid(), signal.SIGSTOP)


def test_a_writer_that_hangs_in_a_transaction_is_ended(engine: Engine) -> None:
    hung = multiprocessing.get_context("spawn").Process(
        target=hang_in_a_transaction, args=(engine.url.render_as_string(),)
    )
    hung.start()
    try:
        until(lambda: psutil.Process(hung.pid).status() == psutil.STATUS_STOPPED, 20)
        standby = candidate(engine)
        until(standby.try_to_win, 20)
        assert LogStore(engine).take_over() == 2
        hung.join(10)
        assert hung.exitcode == -signal.SIGKILL
    finally:
        hung.kill()


def test_who_has_locks_on_a_file_can_be_told(engine: Engine) -> None:
    assert candidate(engine).try_to_win() is True
    shared_memory = Path(f"{engine.url.database}-shm")
    with database.transaction(engine):
        assert file_locks.holders(shared_memory) == {os.getpid()}
    assert file_locks.holders(shared_memory) == set()
    assert file_locks.holders(Path("/nowhere")) == set()


def test_a_writer_that_beats_is_not_replaced(engine: Engine) -> None:
    writer, standby = candidate(engine), candidate(engine)
    assert writer.try_to_win()
    epoch, then = LogStore(engine).take_over(), time.monotonic() + 0.6
    while time.monotonic() < then:
        assert LogStore(engine).beat(epoch, Head())
        assert not standby.try_to_win()
    writer.check()


@pytest.mark.parametrize(
    ("free", "level"), [(100, Level.OK), (10, Level.OK), (9, Level.LOW), (2, Level.LOW), (1, Level.FULL)]
)
def test_levels_of_free_space(tmp_path: Path, free: int, level: Level) -> None:
    path = tmp_path / "audit.db"
    path.touch()
    storage = Storage(path, Limits(10 * MIB, 2 * MIB), lambda _: free * MIB)
    assert storage.level() is level
    if level is Level.FULL:
        error = refusal_of(storage.check)
        assert error.reason is Reason.AUDIT_STORAGE_FULL
        assert f"{free * MIB} bytes are free" in error.message
    else:
        storage.check()


def test_a_level_that_is_crossed_is_an_event_and_a_full_disk_a_refusal(engine: Engine) -> None:
    free = [100]
    log = opened(engine, OwnRoot(), limits=Limits(10, 2))
    log.storage._free = lambda _: free[0]
    logs = Logs([log])
    watch = StorageWatch(logs, NoOpMeterProvider().get_meter("test"))

    def levels() -> list[str]:
        page, _ = log.events.page(Query("", action="audit:WatchStorage"), Period(), None, 50, newest_first=False)
        return [f"{one.reason} {one.attributes['free_bytes']}" for one in page]

    watch.look()
    assert levels() == []
    free[0] = 5
    watch.look()
    watch.look()
    assert levels() == ["AUDIT_STORAGE_LOW 5"]
    free[0] = 1
    watch.look()
    assert refusal_of(lambda: log.log.append([event()])).reason is Reason.AUDIT_STORAGE_FULL
    free[0] = 50
    watch.look()
    assert levels() == ["AUDIT_STORAGE_LOW 5", " 50"]
    assert log.log.append([event()]) == [2]
    log.stop()


@pytest.mark.parametrize("torn", [b"\0" * 100, b"\xff" * 4120, b"\x18" * 24])
def test_a_torn_last_write_takes_nothing_with_it(open_log: OpenLog, tmp_path: Path, torn: bytes) -> None:
    recorded = [event() for _ in range(300)]
    open_log.log.append(recorded)
    # As the disk of a process that died while it wrote: the files as they are, and part of a frame behind.
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for name in ("audit.db", "audit.db-wal"):
        shutil.copy(tmp_path / name, crashed / name)
    with (crashed / "audit.db-wal").open("ab") as wal:
        wal.write(torn)
    engine = database.open_database(Database(url=f"sqlite:///{crashed}/audit.db"))
    crypto = OwnRoot()
    log = opened(engine, crypto)
    assert log.log.size >= 300
    assert [log.events.get("acme", one.id) for one in recorded[-3:]] == recorded[-3:]
    assert log.log.append([event()]) == [log.log.size - 1]
    log.stop()
