"""Two writers of one log, connections that are cut at every point, answers that are lost: what was acknowledged is
there once, nobody is locked out, and only what contradicts the log is refused."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from services.audit.log.endings import Endings
from services.audit.logs.logs import OpenLog
from services.audit.publication.store import PublicationStore
from services.audit.storage.store import LogStore
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage import database
from strongroom.tlog import merkle
from tests.support import databases
from tests.support.audit_logs import OwnRoot, event, opened, put_back
from tests.support.clients import until

LOST = (Reason.AUDIT_STORAGE_FAILED, Reason.AUDIT_UNREACHABLE)


class Cuts:
    """Cuts the connection of the next commits that this thread makes, before the database has done them or after."""

    def __init__(self, engine: Engine) -> None:
        self._commit: Callable[[Any], None] = engine.dialect.do_commit
        self._next: list[bool] = []
        self._thread = threading.get_ident()
        engine.dialect.do_commit = self._do_commit  # type: ignore[assignment, method-assign]

    def next(self, *done: bool) -> None:
        """The next commits are cut; True where the database does them all the same."""
        self._next = list(done)

    def _do_commit(self, connection: Any) -> None:
        done = self._next.pop(0) if self._next and threading.get_ident() == self._thread else None
        if done is None:
            self._commit(connection)
            return
        if done:
            self._commit(connection)
        raise sqlite3.OperationalError("the connection is cut")


@pytest.fixture
def cuts(engine: Engine) -> Cuts:
    return Cuts(engine)


def test_an_append_whose_commit_was_not_answered_is_acknowledged_once(open_log: OpenLog, cuts: Cuts) -> None:
    first = [event(), event("other")]
    open_log.log.append([event()])
    cuts.next(True)
    assert open_log.log.append(first) == [1, 2]
    assert open_log.log.append([event(), first[0]], resent=True) == [3, 1]
    assert_whole(open_log, 4)


def test_an_append_that_was_cut_before_its_commit_is_written_once(open_log: OpenLog, cuts: Cuts) -> None:
    open_log.log.append([event()])
    cuts.next(False)
    assert open_log.log.append([event(), event("other")]) == [1, 2]
    assert_whole(open_log, 3)


def test_while_the_database_is_away_an_append_stays_in_doubt_and_is_settled_later(
    open_log: OpenLog, cuts: Cuts
) -> None:
    doubtful = event()
    open_log.log.append([event()])
    # The commit is done and not answered, and so it goes with the look at what happened.
    cuts.next(True, False)
    with pytest.raises(StrongroomError) as refused:
        open_log.log.append([doubtful])
    assert refused.value.reason is Reason.AUDIT_STORAGE_FAILED
    assert open_log.log.append([event(), doubtful], resent=True) == [2, 1]
    assert_whole(open_log, 3)


def test_the_newest_writer_writes_and_the_one_before_it_is_told_once(engine: Engine, crypto: OwnRoot) -> None:
    told: list[str] = []
    endings = Endings(lambda: told.append("overtaken"), lambda: told.append("contradicted"))
    first = opened(engine, crypto, endings=endings)
    first.log.append([event()])
    second = opened(engine, crypto)
    assert second.log.append([event()]) == [1]
    for _ in range(3):
        with pytest.raises(StrongroomError) as refused:
            first.log.append([event()])
        # Retried where the log is now.
        assert refused.value.reason is Reason.AUDIT_UNREACHABLE
    until(lambda: told == ["overtaken"])
    assert second.log.append([event()]) == [2]
    assert_whole(second, 3)
    first.stop()
    second.stop()


def test_a_writer_that_hands_over_appends_no_more(engine: Engine, crypto: OwnRoot) -> None:
    first = opened(engine, crypto)
    first.log.append([event()])
    first.log.hand_over()
    with pytest.raises(StrongroomError) as refused:
        first.log.append([event()])
    assert refused.value.reason is Reason.AUDIT_UNREACHABLE
    second = opened(engine, crypto)
    assert second.log.append([event()]) == [1]
    first.stop()
    second.stop()


def sign_no_more(log: OpenLog) -> None:
    """What is in the log now is signed, and what comes is not."""
    log.publisher.stop()


def promote(engine: Engine, size: int, epochs_lost: int) -> None:
    """The database fails over to a standby that was behind."""
    put_back(engine, size)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(text("UPDATE heads SET epoch = epoch - :lost"), {"lost": epochs_lost})


@pytest.mark.parametrize("epochs_lost", [0, 1])
def test_a_log_whose_unsigned_end_is_lost_is_opened_anew(engine: Engine, crypto: OwnRoot, epochs_lost: int) -> None:
    told: list[str] = []
    endings = Endings(lambda: told.append("overtaken"), lambda: told.append("contradicted"))
    log = opened(engine, crypto, endings=endings)
    kept = [event(), event()]
    log.log.append(kept)
    sign_no_more(log)
    log.log.append([event()])
    promote(engine, 2, epochs_lost)
    for _ in range(3):
        with pytest.raises(StrongroomError) as refused:
            log.log.append([event()])
        # Asked again, where it is opened anew.
        assert refused.value.reason is Reason.AUDIT_UNREACHABLE
    assert told == ["overtaken"]
    log.stop()
    again = opened(engine, crypto)
    assert again.log.append([event(), kept[0]], resent=True) == [2, 0]
    assert_whole(again, 3)
    again.stop()


def test_a_writer_that_lost_only_its_number_is_not_locked_out(engine: Engine, crypto: OwnRoot) -> None:
    told: list[str] = []
    endings = Endings(lambda: told.append("overtaken"), lambda: told.append("contradicted"))
    log = opened(engine, crypto, endings=endings)
    log.log.append([event()])
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(text("UPDATE heads SET epoch = epoch - 1"))
    until(lambda: told == ["overtaken"])
    log.stop()


def test_an_end_that_was_put_back_is_noticed_though_nobody_appends(engine: Engine, crypto: OwnRoot) -> None:
    told: list[str] = []
    log = opened(engine, crypto, endings=Endings(lambda: told.append("overtaken")))
    sign_no_more(log)
    log.log.append([event()])
    put_back(engine, 0)
    until(lambda: told == ["overtaken"])
    log.stop()


def test_what_the_database_has_lost_is_not_signed(engine: Engine, crypto: OwnRoot) -> None:
    log = opened(engine, crypto)
    sign_no_more(log)
    log.log.append([event()])
    put_back(engine, 0)
    with pytest.raises(StrongroomError) as refused:
        log.publisher.sign()
    assert refused.value.reason is Reason.AUDIT_UNREACHABLE
    assert log.publisher.signed is None
    log.stop()
    again = opened(engine, crypto)
    assert again.publisher.signed is None
    again.stop()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE heads SET size = size - 1",
        "UPDATE heads SET last_hash = x'00'",
        # Consistent in itself, and shorter than what was signed.
        "put back",
    ],
)
def test_a_database_that_contradicts_what_was_signed_is_refused_until_a_person_looked(
    engine: Engine, crypto: OwnRoot, statement: str
) -> None:
    told: list[str] = []
    log = opened(engine, crypto, endings=Endings(contradicted=lambda: told.append("contradicted")))
    log.log.append([event(), event()])
    until(lambda: log.publisher.signed is not None and log.publisher.signed.tree_size == 2)
    if statement == "put back":
        put_back(engine, 1)
    else:
        with engine.connect().execution_options(writes=True) as connection, connection.begin():
            connection.execute(text(statement))
    for _ in range(3):
        with pytest.raises(StrongroomError) as refused:
            log.log.append([event()])
        assert refused.value.reason is Reason.AUDIT_STORAGE_FAILED
    assert told == ["contradicted"]
    log.stop()


def test_a_log_that_was_rewritten_below_what_was_signed_is_refused(engine: Engine, crypto: OwnRoot) -> None:
    told: list[str] = []
    log = opened(engine, crypto, endings=Endings(contradicted=lambda: told.append("contradicted")))
    log.log.append([event(), event()])
    sign_no_more(log)
    put_back(engine, 1)
    rival = opened(engine, crypto)
    rival.log.append([event(), event()])
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        # As if the other had taken over in a database that had not heard of this one yet.
        connection.execute(text("UPDATE heads SET epoch = epoch - 1"))
    with pytest.raises(StrongroomError) as refused:
        log.log.append([event()])
    assert refused.value.reason is Reason.AUDIT_STORAGE_FAILED
    assert told == ["contradicted"]
    log.stop()
    rival.stop()


def test_while_the_database_cannot_be_asked_nothing_is_decided(
    engine: Engine, crypto: OwnRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    endings = Endings(lambda: told.append("overtaken"), lambda: told.append("contradicted"))
    log = opened(engine, crypto, endings=endings)
    sign_no_more(log)
    log.log.append([event()])
    entries = LogStore.entries

    def away(*_: object) -> list[bytes]:
        raise StrongroomError(Reason.DATABASE_UNAVAILABLE, "it is away")

    monkeypatch.setattr(LogStore, "entries", away)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(text("DELETE FROM leaves"))
        connection.execute(text("UPDATE heads SET size = 0, high_us = 0, last_hash = x''"))
    for _ in range(2):
        with pytest.raises(StrongroomError) as refused:
            log.log.append([event()])
        assert refused.value.reason is Reason.AUDIT_STORAGE_FAILED
    assert told == []
    monkeypatch.setattr(LogStore, "entries", entries)
    until(lambda: told == ["overtaken"])
    log.stop()


def test_refusing_again_and_again_keeps_nothing(engine: Engine, crypto: OwnRoot) -> None:
    log = opened(engine, crypto)
    log.log.hand_over()
    refusals = []
    for _ in range(5):
        with pytest.raises(StrongroomError) as refused:
            log.log.append([event()])
        refusals.append(refused.value)
    assert len(set(map(id, refusals))) == 5
    log.stop()


# What happens to an append: it goes well, its commit is cut before or after, another process takes the log over, or the
# database fails over to a standby that lacks half of the leaves that are not signed, and may not have heard of the
# writer.
STEPS = st.lists(
    st.sampled_from(
        ["append", "append", "before", "after", "before after", "after after", "rival", "lossy", "lossy epoch"]
    ),
    max_size=25,
)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_is_cut_what_was_acknowledged_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    with closing_database(f"sqlite:///{tmp_path_factory.mktemp('log')}/audit.db") as engine:
        databases.migrate(engine, "audit")
        crypto, cuts = OwnRoot(), Cuts(engine)
        writers: list[OpenLog] = []
        acknowledged: dict[str, int] = {}

        def open_another() -> None:
            writers.append(opened(engine, crypto))
            sign_no_more(writers[-1])

        open_another()
        try:
            for step in steps:
                if step == "rival":
                    open_another()
                    continue
                if step.startswith("lossy"):
                    signed = PublicationStore(engine, LogStore(engine)).newest(published=False)
                    left = ((signed.tree_size if signed else 0) + LogStore(engine).head().size) // 2
                    promote(engine, left, epochs_lost=int(step == "lossy epoch"))
                    acknowledged = {known: place for known, place in acknowledged.items() if place < left}
                    continue
                cuts.next(*(part == "after" for part in step.split() if part != "append"))
                added = [event(), event("other")]
                # Whoever asks tries again, as the audit client does, of whichever process answers.
                places, _ = tried(writers, added, open_another)
                acknowledged |= {one.id: place for one, place in zip(added, places, strict=True)}
            # Whoever writes now; the log may have been put back since.
            last = event()
            places, writer = tried(writers, [last], open_another)
            acknowledged[last.id] = places[0]
            assert_whole(writer, len(acknowledged))
            assert sorted(acknowledged.values()) == list(range(len(acknowledged)))
            for event_id, place in acknowledged.items():
                found = LogStore(engine).by_event(bytes.fromhex(event_id.replace("-", "")))
                assert found is not None
                assert found.leaf_index == place
        finally:
            cuts.next()
            for writer in writers:
                writer.stop()


def tried(writers: list[OpenLog], added: list[Any], open_another: Callable[[], None]) -> tuple[list[int], OpenLog]:
    for attempt in range(6):
        for writer in writers:
            try:
                return writer.log.append(added, resent=attempt > 0), writer
            except StrongroomError as error:
                assert error.reason in LOST
                newest = error
        if newest.reason is Reason.AUDIT_UNREACHABLE:
            # None of them writes any more: one opens the log anew.
            open_another()
    raise AssertionError("nobody writes the log any more")


def assert_whole(log: OpenLog, size: int) -> None:
    """The log has so many leaves, and its tree, head and tiles are theirs."""
    entries = log.source  # read as a verifier would
    assert log.log.size == size
    store = LogStore(log._engine)
    leaves = store.entries(0, size + 1)
    assert len(leaves) == size
    assert store.head().size == size
    root = merkle.root_of(merkle.leaf_hashes(leaves))
    assert log.log.tree.root() == root
    assert entries.proofs(size).root() == root if size else True


@contextmanager
def closing_database(url: str) -> Iterator[Engine]:
    engine = database.open_database(Database(url=url))
    yield engine
    engine.dispose()
