"""Session tokens over the lives of the keys that sign them: rotation, several processes, and a new one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from sqlalchemy import Engine, event

from services.keystore.access.credentials.sessions import Session, Sessions
from services.keystore.access.records.reading import LocalAccessRecords
from services.keystore.handlers.key_record_service import KeyRecordService
from services.runtime.access.identity import Identities
from services.runtime.call import Principal, SessionScope
from services.runtime.changes import ChangeFeed
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.database import open_database
from strongroom.access.v1.session_service_pb2 import CREDENTIAL_KIND_ASSUMED_ROLE
from tests.support import databases
from tests.support.clocks import SkewedClock
from tests.support.sealing import DestroyedHere, sealed

DOMAIN = "mesh.test"
HOUR = 3600
ROLE = Principal(
    "accounts/acme/roles/operator",
    "acme",
    session_name="nightly",
    credential="accounts/acme/clientKeys/k",
    credential_kind=CREDENTIAL_KIND_ASSUMED_ROLE,
    scope=SessionScope(
        ("permit (principal, action, resource);",), (("team", "a"), ("zone", "b")), ("accounts/acme/users/ann",)
    ),
)


class Clock:
    """So many hours from now."""

    def __init__(self) -> None:
        self.hours = 0.0

    def now_us(self) -> int:
        return time.time_ns() // 1_000 + int(self.hours * HOUR * 1e6)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = sealed(open_database(Database(url=f"sqlite:///{tmp_path / 'keystore.db'}")))
    databases.migrate(engine, "keystore")
    yield engine
    engine.dispose()


@pytest.fixture
def identities(engine: Engine, clock: Clock) -> Identities:
    feed = ChangeFeed(KeyRecordService(engine, DestroyedHere(), clock).changes)
    identities = Identities(LocalAccessRecords(engine, clock), feed, DOMAIN)
    feed.poll()
    return identities


def begun(sessions: Sessions, clock: Clock, principal: Principal = ROLE, seconds: int = HOUR) -> Session:
    return sessions.begin(principal, seconds, clock.now_us())


def token(sessions: Sessions, clock: Clock, seconds: int = HOUR) -> str:
    return begun(sessions, clock, ROLE, seconds).token.reveal().decode()


def key_id(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def test_a_token_says_all_that_its_session_is(engine: Engine, identities: Identities, clock: Clock) -> None:
    began = begun(Sessions(engine, DOMAIN, clock), clock)

    read = identities.from_token(began.token.reveal().decode())

    assert read == began.principal
    assert read.scope == ROLE.scope
    assert abs(read.issued - time.time()) < 5
    assert read.expires == int(read.issued) + HOUR


def test_keys_rotate_and_tokens_of_the_one_before_stay_valid(
    engine: Engine, identities: Identities, clock: Clock
) -> None:
    sessions = Sessions(engine, DOMAIN, clock)
    clock.hours = -25
    assert key_id(token(sessions, clock)) == key_id(token(sessions, clock))
    clock.hours = -2
    before = token(sessions, clock, 12 * HOUR)
    clock.hours = 0
    after = token(sessions, clock)

    assert key_id(before) != key_id(after)
    for one in (before, after):
        assert identities.from_token(one).name == ROLE.name


def test_the_next_key_is_made_before_it_is_needed(engine: Engine, clock: Clock) -> None:
    sessions = Sessions(engine, DOMAIN, clock)
    sessions.renew()
    only_reads = lambda connection: connection.exec_driver_sql("PRAGMA query_only=1")  # noqa: E731  # to be removed again
    event.listen(engine, "begin", only_reads)
    first = key_id(token(sessions, clock))
    sessions.renew()
    assert key_id(token(sessions, clock)) == first
    event.remove(engine, "begin", only_reads)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("PRAGMA query_only=0"))
    clock.hours = 23.5
    sessions.renew()
    assert key_id(token(sessions, clock)) != first


def test_every_process_has_a_key_of_its_own_and_each_is_valid(
    engine: Engine, identities: Identities, clock: Clock
) -> None:
    processes = [Sessions(engine, DOMAIN, clock) for _ in range(3)]
    identities.from_token(token(processes[0], clock))
    # The others began to sign after the keys were read.
    tokens = []
    for process in processes:
        tokens.append(token(process, clock))
        assert identities.from_token(tokens[-1]).name == ROLE.name
        time.sleep(0.06)
    assert len({key_id(one) for one in tokens}) == 3


def test_a_token_of_another_mesh_is_not_valid(engine: Engine, identities: Identities, clock: Clock) -> None:
    with pytest.raises(StrongroomError) as refusal:
        identities.from_token(token(Sessions(engine, "other.test", clock), clock))
    assert refusal.value.reason is Reason.TOKEN_INVALID


def test_tokens_that_name_keys_of_nobody_make_a_worker_read_only_now_and_then(engine: Engine, clock: Clock) -> None:
    class Counted(LocalAccessRecords):
        reads = 0

        def token_keys(self):  # type: ignore[no-untyped-def]  # as the class does
            Counted.reads += 1
            return super().token_keys()

    feed = ChangeFeed(KeyRecordService(engine, DestroyedHere(), clock).changes)
    identities = Identities(Counted(engine, clock), feed, DOMAIN, monotonic=lambda: 100.0)
    feed.poll()
    for number in range(50):
        made_up = jwt.encode({}, "k" * 32, "HS256", headers={"kid": f"made-up-{number}"})
        with pytest.raises(StrongroomError):
            identities.from_token(made_up)
    assert Counted.reads == 2


def test_a_key_that_has_ended_signs_for_nobody(engine: Engine, clock: Clock) -> None:
    sessions = Sessions(engine, DOMAIN, clock)
    feed = ChangeFeed(KeyRecordService(engine, DestroyedHere(), clock).changes)
    later = Identities(LocalAccessRecords(engine, clock), feed, DOMAIN, clock=SkewedClock(37 * HOUR))
    feed.poll()
    with pytest.raises(StrongroomError) as refusal:
        later.from_token(token(sessions, clock))
    assert refusal.value.reason is Reason.TOKEN_INVALID


def test_what_does_not_fit_into_a_token_is_refused(engine: Engine, clock: Clock) -> None:
    policies = ("permit (principal, action, resource);" * 55,) * 3
    large = Principal(ROLE.name, "acme", credential_kind=ROLE.credential_kind, scope=SessionScope(policies))
    with pytest.raises(StrongroomError) as refusal:
        begun(Sessions(engine, DOMAIN, clock), clock, large)
    assert (refusal.value.reason, refusal.value.field) == (Reason.FIELD_TOO_LARGE, "session_policy")


def test_a_session_prints_without_its_token(engine: Engine, clock: Clock) -> None:
    began = begun(Sessions(engine, DOMAIN, clock), clock)
    assert began.token.reveal().decode() not in repr(began)


def test_the_key_of_yesterday_signs_on_where_the_database_takes_none_and_sessions_end_with_it(
    engine: Engine, identities: Identities, clock: Clock
) -> None:
    sessions = Sessions(engine, DOMAIN, clock)
    clock.hours = -30
    first = key_id(token(sessions, clock))
    only_reads = [lambda connection: connection.exec_driver_sql("PRAGMA query_only=1")]
    event.listen(engine, "begin", only_reads[0])
    clock.hours = 0
    late = begun(sessions, clock, seconds=12 * HOUR)
    assert key_id(late.token.reveal().decode()) == first
    assert identities.from_token(late.token.reveal().decode()) == late.principal
    assert 5.9 * HOUR < late.principal.expires - late.principal.issued <= 6 * HOUR
    clock.hours = 5.5
    with pytest.raises(StrongroomError) as refusal:
        token(sessions, clock)
    assert refusal.value.reason is Reason.DATABASE_UNAVAILABLE
    event.remove(engine, "begin", only_reads[0])
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("PRAGMA query_only=0"))
    assert key_id(token(sessions, clock)) != first
