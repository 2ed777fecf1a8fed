"""Transactions: what is to follow a commit follows it, nothing follows what was taken back, and who gets no connection
is told so.
"""

from __future__ import annotations

import multiprocessing
import resource
import sqlite3
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.database import (
    KeptConnection,
    SecondConnectionWarning,
    after_commit,
    count_second_connections,
    open_database,
    reading,
    require_writable,
    transaction,
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(Database(url=f"sqlite:///{tmp_path}/some.db"))
    with transaction(engine) as connection:
        connection.execute(text("CREATE TABLE t (n INTEGER)"))
    yield engine
    engine.dispose()


def count(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(connection.execute(text("SELECT count(*) FROM t")).scalar_one())


def put(engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(text("INSERT INTO t VALUES (1)"))


def put_kept(kept: KeptConnection) -> None:
    with kept.transaction() as connection:
        connection.execute(text("INSERT INTO t VALUES (1)"))


def test_what_follows_a_commit_sees_what_was_committed(engine: Engine) -> None:
    seen: list[int] = []
    with transaction(engine) as connection:
        connection.execute(text("INSERT INTO t VALUES (1)"))
        after_commit(connection, lambda: seen.append(count(engine)))
        assert seen == []
    assert seen == [1]


def test_nothing_follows_what_was_taken_back(engine: Engine) -> None:
    seen: list[int] = []

    def fail() -> None:
        with transaction(engine) as connection:
            connection.execute(text("INSERT INTO t VALUES (1)"))
            after_commit(connection, lambda: seen.append(count(engine)))
            raise ValueError("meant")

    with pytest.raises(ValueError, match="meant"):
        fail()
    assert seen == []
    assert count(engine) == 0


def test_a_commit_that_failed_leaves_nothing_open_in_the_pool(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(_: Any) -> None:
        raise sqlite3.OperationalError("the connection is cut")

    with closing(sqlite3.connect(str(engine.url.database), timeout=0.1)) as other:
        for write in (put, lambda engine: put_kept(KeptConnection(engine))):
            with monkeypatch.context() as cutting:
                cutting.setattr(engine.dialect, "do_commit", cut)
                with pytest.raises(StrongroomError) as refused:
                    write(engine)
            assert refused.value.reason is Reason.DATABASE_UNAVAILABLE
            # Nothing is locked, and the next transaction is a new one.
            other.execute("INSERT INTO t VALUES (2)")
            other.rollback()
            put(engine)
    assert count(engine) == 2


def test_who_gets_no_connection_in_time_may_try_again(tmp_path: Path) -> None:
    engine = open_database(Database(url=f"sqlite:///{tmp_path}/some.db", pool_size=1), pool_seconds=0.1)
    with reading(engine), ThreadPoolExecutor(1) as another:
        asking = another.submit(count, engine)
        with pytest.raises(StrongroomError, match="in use for as long as a caller waits") as refused:
            asking.result()
    assert (refused.value.reason, refused.value.is_unavailable) == ("DATABASE_UNAVAILABLE", True)
    engine.dispose()


@pytest.mark.parametrize("held", [reading, transaction])
@pytest.mark.parametrize("ask", [count, put, require_writable])
def test_a_thread_asks_for_no_second_connection_while_it_holds_one(engine: Engine, held: Any, ask: Any) -> None:
    with held(engine), pytest.raises(SecondConnectionWarning):
        ask(engine)
    ask(engine)


def test_where_nothing_makes_it_an_error_a_second_connection_is_given_logged_and_counted(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    counted: list[Any] = []
    meter: Any = SimpleNamespace(create_observable_counter=lambda _name, reads, **_: counted.extend(reads))
    count_second_connections(meter)
    before = counted[0](None)[0].value
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with reading(engine):
            put(engine)
            # The first one is still this thread's only one.
            put(engine)
    assert [one.category for one in told] == [SecondConnectionWarning] * 2
    assert counted[0](None)[0].value == before + 2
    assert count(engine) == 2
    fields = [record.fields["where"] for record in caplog.records if hasattr(record, "fields")]
    assert len(fields) == 2
    assert all("in put" in where for where in fields)


def add(kept: KeptConnection, number: int) -> Any:
    with kept.transaction() as connection:
        connection.execute(text("INSERT INTO t VALUES (:n)"), {"n": number})
        return connection.connection.driver_connection


def test_transactions_that_follow_closely_share_a_connection_and_are_durable_each(engine: Engine) -> None:
    kept = KeptConnection(engine)
    first, second = add(kept, 1), add(kept, 2)
    assert first is second
    assert count(engine) == 2
    kept.close()
    kept.close()


def test_a_kept_connection_is_given_back_after_an_error_and_what_it_did_is_taken_back(engine: Engine) -> None:
    kept = KeptConnection(engine)
    add(kept, 1)

    def fail() -> None:
        with kept.transaction() as connection:
            connection.execute(text("INSERT INTO t VALUES (2)"))
            raise ValueError("meant")

    with pytest.raises(ValueError, match="meant"):
        fail()
    assert count(engine) == 1
    add(kept, 3)
    assert count(engine) == 2
    kept.close()


def test_a_kept_connection_that_was_idle_is_asked_for_anew(engine: Engine) -> None:
    taken: list[object] = []
    event.listen(engine, "checkout", lambda driver, *_: taken.append(driver))
    kept = KeptConnection(engine, idle_seconds=60.0)
    add(kept, 1)
    add(kept, 2)
    assert len(taken) == 1
    kept.close()
    always_idle = KeptConnection(engine, idle_seconds=0.0)
    add(always_idle, 3)
    add(always_idle, 4)
    assert len(taken) == 3
    always_idle.close()


def ask_on_a_full_disk(url: str) -> None:
    """Ends with 0 where the database is told not to take writes."""
    engine = open_database(Database(url=url))
    require_writable(engine)
    # As on a full disk no file grows any more.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        require_writable(engine)
    except StrongroomError as error:
        raise SystemExit(0 if error.reason is Reason.DATABASE_UNAVAILABLE else 2) from None
    raise SystemExit(1)


def test_a_database_on_a_full_disk_takes_no_writes_though_it_can_be_read(engine: Engine) -> None:
    child = multiprocessing.get_context("spawn").Process(
        target=ask_on_a_full_disk, args=(engine.url.render_as_string(),)
    )
    child.start()
    child.join(30)
    assert child.exitcode == 0
    require_writable(engine)
    require_writable(engine, proof=False)
