"""The log: places without gaps, repeats found, nothing half written, leaves that only their account's key opens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Engine, text

from services.audit.events import Events, Period
from services.audit.log import Log
from services.audit.sealing import Sealer, Wrapped
from services.audit.store import LogStore
from services.runtime import clock, database, identifiers, migrations
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.sensitive import SensitiveBytes
from strongroom.audit.v1.event_pb2 import Event, Outcome

NONCE = bytes(12)


class OwnRoot:
    """Wraps sealing roots under a key of the test's own, as crypto does under the mesh's."""

    def __init__(self) -> None:
        self._key = AESGCM(bytes(32))
        self.away = False

    def wrap(self, root: SensitiveBytes) -> Wrapped:
        self._require()
        return Wrapped(self._key.encrypt(NONCE, root.reveal(), None), 1)

    def rewrap(self, wrapped: bytes) -> Wrapped:
        return self.wrap(self.unwrap(wrapped))

    def unwrap(self, wrapped: bytes) -> SensitiveBytes:
        self._require()
        return SensitiveBytes(self._key.decrypt(NONCE, wrapped, None))

    def _require(self) -> None:
        if self.away:
            raise StrongroomError(Reason.CRYPTO_UNREACHABLE, "crypto is away")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = database.open_database(Database(url=f"sqlite:///{tmp_path}/audit.db"))
    migrations.migrate(engine, "audit")
    yield engine
    engine.dispose()


@pytest.fixture
def crypto() -> OwnRoot:
    return OwnRoot()


@pytest.fixture
def sealer(engine: Engine, crypto: OwnRoot) -> Iterator[Sealer]:
    sealer = Sealer(LogStore(engine), crypto, clock.system_clock)
    sealer.start()
    wait_for(sealer)
    yield sealer
    sealer.stop()


@pytest.fixture
def log(engine: Engine, sealer: Sealer) -> Log:
    return Log(LogStore(engine), sealer, clock.system_clock)


def wait_for(sealer: Sealer) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            sealer.check()
        except StrongroomError:
            time.sleep(0.01)
        else:
            return
    raise AssertionError("no sealing root")


def event(account: str = "acme", principal: str = "accounts/acme/users/ann", at: int = 0) -> Event:
    return Event(
        id=identifiers.event_id(),
        time=clock.timestamp(at or time.time_ns()),
        account=account,
        principal=principal,
        outcome=Outcome.OUTCOME_ALLOWED,
    )


def test_events_get_consecutive_places(log: Log) -> None:
    assert log.append([event(), event()]) == [0, 1]
    assert log.append([event("other")]) == [2]
    assert log.size == 3


@pytest.mark.parametrize("resent", [True, False], ids=["marked", "unmarked"])
def test_a_repeated_event_keeps_its_place_and_is_stored_once(log: Log, resent: bool) -> None:
    first, second, third = event(), event(), event()
    log.append([first, second])
    assert log.append([second, third], resent=resent) == [1, 2]
    assert log.size == 3


def test_an_event_twice_in_one_append_is_one_event(log: Log) -> None:
    twice = event()
    assert log.append([twice, twice, event()]) == [0, 0, 1]


def test_a_new_process_goes_on_where_the_last_one_ended(log: Log, engine: Engine, sealer: Sealer) -> None:
    log.append([event(), event()])
    assert Log(LogStore(engine), sealer, clock.system_clock).append([event()]) == [2]


def test_concurrent_appends_leave_no_gap_and_no_double(log: Log) -> None:
    places: list[int] = []

    def append_many() -> None:
        for _ in range(50):
            places.extend(log.append([event(), event("other")]))

    threads = [threading.Thread(target=append_many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(places) == list(range(800))


def test_the_database_holds_no_readable_event(log: Log, tmp_path: Path) -> None:
    log.append([event(principal="accounts/acme/users/very-secret-name")])
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"very-secret-name" not in held


def test_events_are_read_back_in_order_of_time_page_by_page(log: Log, engine: Engine, sealer: Sealer) -> None:
    recorded = [event(at=(10 + n // 2) * 1_000_000_000) for n in range(7)]
    log.append(recorded)
    log.append([event("other")])
    events = Events(LogStore(engine), sealer)
    for newest_first in (False, True):
        read, position = [], None
        while True:
            page, position = events.page("acme", Period(), lambda _: True, position, 3, newest_first=newest_first)
            read += page
            if position is None:
                break
        assert read == (recorded[::-1] if newest_first else recorded)
    between, _ = events.page("acme", Period(11_000_000, 12_000_000), lambda _: True, None, 10, newest_first=False)
    assert between == recorded[2:4]


def test_an_event_is_found_by_its_id_in_its_account_alone(log: Log, engine: Engine, sealer: Sealer) -> None:
    recorded = event()
    log.append([recorded])
    events = Events(LogStore(engine), sealer)
    assert events.get("acme", recorded.id) == recorded
    with pytest.raises(StrongroomError) as refused:
        events.get("other", recorded.id)
    assert refused.value.reason is Reason.EVENT_NOT_FOUND


def test_a_restarted_service_reads_what_its_predecessor_sealed(log: Log, engine: Engine, crypto: OwnRoot) -> None:
    recorded = event()
    log.append([recorded])
    restarted = Sealer(LogStore(engine), crypto, clock.system_clock)
    assert Events(LogStore(engine), restarted).get("acme", recorded.id) == recorded


def test_without_crypto_at_start_the_log_refuses_and_says_why(engine: Engine, crypto: OwnRoot) -> None:
    crypto.away = True
    sealer = Sealer(LogStore(engine), crypto, clock.system_clock)
    sealer.start()
    log = Log(LogStore(engine), sealer, clock.system_clock)
    for refused_call in (log.check, lambda: log.append([event()])):
        with pytest.raises(StrongroomError) as refused:
            refused_call()
        assert refused.value.reason is Reason.AUDIT_SEALING_KEY_UNAVAILABLE
    crypto.away = False
    wait_for(sealer)
    assert log.append([event()]) == [0]
    sealer.stop()


def test_a_full_disk_refuses_whole_groups_and_loses_nothing(log: Log, engine: Engine) -> None:
    log.append([event()])
    with engine.connect() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
    engine.dispose()
    log_store = log

    def limit(connection: object, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages + 2}")  # type: ignore[attr-defined]

    from sqlalchemy import event as engine_events

    engine_events.listen(engine, "connect", limit)
    appended = log.size
    with pytest.raises(StrongroomError) as refused:
        for _ in range(1000):
            appended = log_store.append([event() for _ in range(20)])[-1] + 1
    assert refused.value.reason is Reason.AUDIT_STORAGE_FULL
    assert LogStore(engine).size() == appended == log.size
    engine_events.remove(engine, "connect", limit)
    engine.dispose()
    assert log.append([event()]) == [appended]
