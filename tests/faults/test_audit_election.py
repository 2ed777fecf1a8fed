"""Who writes the log, on a real PostgreSQL: one that hangs is replaced, one that beats is not, and one whose session
was ended finds out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from deploy.dev.postgres import PostgresCluster
from services.audit.keys.service_keys import ServiceKeys
from services.audit.keys.store import WrappedKeys
from services.audit.log.election import AdvisoryElection
from services.audit.storage.store import Head, LogStore
from services.runtime import clock
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage import database, migrations
from tests.support.audit_logs import OwnRoot, event, opened
from tests.support.clients import until

DATABASE = "audit_election"


@pytest.fixture
def engine(postgres_cluster: PostgresCluster) -> Iterator[Engine]:
    engine = database.open_database(Database(url=postgres_cluster.create_database(DATABASE)))
    migrations.migrate(engine, "audit")
    yield engine
    engine.dispose()
    postgres_cluster.drop_database(DATABASE)


def candidate(engine: Engine, lost: Callable[[], None] = lambda: None) -> AdvisoryElection:
    """One that finds a writer silent after half a second."""
    return AdvisoryElection(engine, lost, silent_seconds=0.5, check_seconds=0.0)


def test_a_writer_that_hangs_is_replaced_and_finds_itself_overtaken(engine: Engine) -> None:
    lost = threading.Event()
    hung, standby = candidate(engine, lost.set), candidate(engine)
    store = LogStore(engine)
    assert hung.try_to_win()
    epoch = store.take_over()
    assert not standby.try_to_win()
    # It never beats again.
    until(standby.try_to_win, 10)
    store.take_over()
    assert not store.beat(epoch, store.head())
    with pytest.raises(StrongroomError) as refused:
        hung.check()
    assert refused.value.reason is Reason.AUDIT_UNREACHABLE
    assert lost.is_set()


def test_a_writer_that_hangs_in_an_append_does_not_hold_up_whoever_takes_over(engine: Engine) -> None:
    hung, standby = candidate(engine), candidate(engine)
    store, its_own = LogStore(engine), LogStore(engine)
    assert hung.try_to_win()
    epoch = store.take_over()
    before = store.head()

    def append() -> None:
        with its_own.appending() as connection:
            assert its_own.move_head(connection, before, Head(1, 1, bytes(32)), epoch)
            until(standby.try_to_win, 10)
            assert store.take_over() == epoch + 1

    with pytest.raises((StrongroomError, DBAPIError)):
        append()
    assert store.head() == before


def test_a_pool_that_has_no_connection_left_is_tried_again(engine: Engine) -> None:
    url = engine.url.render_as_string(hide_password=False)
    full = database.open_database(Database(url=url, pool_size=1), pool_seconds=0.05)
    with full.connect(), pytest.raises(StrongroomError) as refused:
        candidate(full).try_to_win()
    assert refused.value.reason is Reason.AUDIT_STORAGE_FAILED
    winner = candidate(full)
    assert winner.try_to_win()
    winner.give_up()
    full.dispose()


def test_a_standby_that_has_the_keys_needs_no_crypto_when_it_takes_over(engine: Engine) -> None:
    crypto = OwnRoot()
    first = opened(engine, crypto)
    first.log.append([event()])
    other = database.open_database(Database(url=engine.url.render_as_string(hide_password=False)))
    keys = ServiceKeys(WrappedKeys(other), crypto, clock.system_clock)
    keys.prepare()
    first.stop()
    crypto.away = True
    second = opened(other, crypto, prepared=keys)
    # At once: whoever waited for a writer has waited long enough.
    assert second.log.append([event()]) == [1]
    assert second.signing_keys.signers()
    second.stop()


def test_a_writer_that_beats_is_not_replaced(engine: Engine) -> None:
    writer, standby = candidate(engine), candidate(engine)
    store = LogStore(engine)
    assert writer.try_to_win()
    epoch, until_then = store.take_over(), time.monotonic() + 1.5
    while time.monotonic() < until_then:
        assert store.beat(epoch, store.head())
        assert not standby.try_to_win()
    writer.check()
    writer.give_up()
    # The server lets go of the lock when it notices that the session has ended.
    until(standby.try_to_win, 10)


def test_a_writer_whose_session_was_ended_keeps_writing_unless_another_was_quicker(engine: Engine) -> None:
    lost: list[str] = []
    writer, standby = candidate(engine, lambda: lost.append("")), candidate(engine)
    assert writer.try_to_win()
    end_sessions(engine)
    writer.check()
    assert lost == []
    assert not standby.try_to_win()
    end_sessions(engine)
    assert standby.try_to_win()
    with pytest.raises(StrongroomError):
        writer.check()
    assert lost == [""]


def end_sessions(engine: Engine) -> None:
    """Every session but this one's; they are gone when this returns."""
    engine.dispose()
    with engine.connect() as connection:
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(text(f"SELECT pg_terminate_backend(pid, 5000) {others}"))
