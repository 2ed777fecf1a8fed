"""A PostgreSQL that hangs rather than ends, and processes that hang with its locks: nobody waits for them for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, make_url, text

from deploy.dev.postgres import PostgresCluster, find_postgres
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.hosting import components
from services.runtime.rpc.status import Status, View
from services.runtime.storage.database import open_database, reading, transaction
from services.runtime.storage.postgresql import LOOK_SECONDS, STATEMENT_SECONDS, LimitedConnection
from tests.support.clients import until

DATABASE = "hanging"
POOL = 4
# What is bounded has ended by then, also on a loaded machine.
SOON_SECONDS = STATEMENT_SECONDS + 7.0


@pytest.fixture(scope="module")
def binaries() -> Path:
    found = find_postgres()
    if found is None:
        pytest.skip("PostgreSQL's server (initdb, postgres) is not installed")
    return found


@pytest.fixture(scope="module")
def primary(binaries: Path) -> Iterator[PostgresCluster]:
    with PostgresCluster(binaries) as cluster:
        yield cluster


@pytest.fixture
def engine(primary: PostgresCluster) -> Iterator[Engine]:
    engine = opened(primary.create_database(DATABASE))
    yield engine
    engine.dispose()
    primary.drop_database(DATABASE)


def opened(url: str) -> Engine:
    engine = open_database(Database(url=url, pool_size=POOL))
    with transaction(engine) as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS t (n INTEGER)"))
        connection.execute(text("INSERT INTO t VALUES (0)"))
    return engine


def write(engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(text("UPDATE t SET n = n + 1"))


def reason_of(work: Callable[[], object]) -> Reason | None:
    try:
        work()
    except StrongroomError as error:
        return error.reason
    return None


def test_a_server_that_hangs_is_given_up_and_the_one_that_was_promoted_takes_over(binaries: Path) -> None:
    with PostgresCluster(binaries) as primary:
        url = make_url(primary.create_database(DATABASE))
        with PostgresCluster(binaries, primary=primary) as standby:
            hosts = f"{url.host}:{primary.port}", f"{url.host}:{standby.port}"
            both = url.set(host=None, port=None, query={"host": hosts})
            engine = opened(both.render_as_string(hide_password=False))
            until(lambda: standby.query(DATABASE, "SELECT count(*) FROM pg_class WHERE relname = 't'") == [(1,)])
            status = Status("keystore", "here")
            status.component("database", components.database(engine))
            status.start()
            users = Users(engine)
            primary.hang()
            users.go_on()
            standby.promote()
            until(lambda: reason_of(lambda: write(engine)) is None, SOON_SECONDS)
            assert users.reasons() == [Reason.DATABASE_UNAVAILABLE] * users.COUNT
            # Nobody waits out the time of a statement: the server is asked whether it answers at all.
            assert users.longest < STATEMENT_SECONDS
            until(lambda: status.get(View.COMPONENTS).components[0].reason == "", SOON_SECONDS)
            status.drain()
            engine.dispose()
        primary.kill()


class Users:
    """Threads in the middle of a transaction, each on a connection of the pool, which go on when they are told."""

    COUNT = POOL - 1

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._begun = threading.Barrier(self.COUNT + 1)
        self._going_on = threading.Event()
        self._reasons: list[Reason | None] = []
        self.longest = 0.0
        """How long any of them went on, in seconds."""
        self._threads = [threading.Thread(target=self._use) for _ in range(self.COUNT)]
        for thread in self._threads:
            thread.start()
        self._begun.wait(SOON_SECONDS)

    def go_on(self) -> None:
        self._going_on.set()

    def reasons(self) -> list[Reason | None]:
        """How each ended."""
        for thread in self._threads:
            thread.join(SOON_SECONDS)
        return self._reasons

    def _use(self) -> None:
        self._reasons.append(reason_of(self._transaction))

    def _transaction(self) -> None:
        with transaction(self._engine) as connection:
            connection.execute(text("SELECT n FROM t")).all()
            self._begun.wait(SOON_SECONDS)
            self._going_on.wait(SOON_SECONDS)
            began = time.monotonic()
            try:
                connection.execute(text("SELECT n FROM t")).all()
            finally:
                self.longest = max(self.longest, time.monotonic() - began)


def test_a_statement_that_takes_long_at_a_server_that_answers_has_its_time(engine: Engine) -> None:
    with reading(engine) as connection:
        connection.execute(text(f"SELECT pg_sleep({5 * LOOK_SECONDS})"))


def test_a_process_that_hangs_with_a_lock_holds_up_nobody_for_long(engine: Engine) -> None:
    def hang() -> None:
        with transaction(engine) as connection:
            connection.execute(text("UPDATE t SET n = n + 1"))
            began = time.monotonic()
            # Another replica waits for the row meanwhile, and gets it.
            assert reason_of(lambda: in_a_thread(lambda: write(engine))) is None
            assert time.monotonic() - began < SOON_SECONDS
            connection.execute(text("SELECT 1"))

    # The server ended it, which is no fault of ours.
    assert reason_of(hang) is Reason.DATABASE_UNAVAILABLE
    with reading(engine) as connection:
        assert connection.execute(text("SELECT n FROM t")).scalar_one() == 1


def in_a_thread(work: Callable[[], None]) -> None:
    failed: list[Exception] = []

    def run() -> None:
        try:
            work()
        except StrongroomError as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(SOON_SECONDS)
    for error in failed:
        raise error


def test_a_lock_that_nobody_gives_back_is_told_as_unavailable(engine: Engine) -> None:
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as foreign:
        foreign.execute("UPDATE t SET n = n + 1")
        assert reason_of(lambda: write(engine)) is Reason.DATABASE_UNAVAILABLE
        foreign.rollback()
    assert reason_of(lambda: write(engine)) is None


def test_what_takes_long_by_its_nature_has_the_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LimitedConnection, "seconds", 0.3)

    def sleep(*, patient: bool) -> None:
        with reading(engine, patient=patient) as connection:
            connection.execute(text("SELECT pg_sleep(0.7)"))

    assert reason_of(lambda: sleep(patient=False)) is Reason.DATABASE_UNAVAILABLE
    assert reason_of(lambda: sleep(patient=True)) is None
    assert reason_of(lambda: sleep(patient=False)) is Reason.DATABASE_UNAVAILABLE


def test_limits_that_an_operator_sets_are_kept(engine: Engine) -> None:
    own = opened(engine.url.update_query_dict({"options": "-c lock_timeout=7s"}).render_as_string(hide_password=False))
    with reading(own) as connection:
        shown = [connection.execute(text(f"SHOW {name}")).scalar_one() for name in ("lock_timeout", LIMIT)]
    assert shown == ["7s", "2s"]
    own.dispose()


LIMIT = "idle_in_transaction_session_timeout"


def test_a_primary_that_is_fenced_is_told_before_anybody_writes() -> None:
    binaries = find_postgres()
    assert binaries is not None
    with PostgresCluster(binaries) as fenced:
        engine = opened(fenced.create_database(DATABASE))
        check = components.database(engine)
        check()
        fenced.fence()
        until(lambda: reason_of(check) is Reason.DATABASE_UNAVAILABLE)
        engine.dispose()
