"""A connection to the database that ends at COMMIT: the change stands or it does not, and its caller is told which."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest
from sqlalchemy import Engine, MetaData, insert, make_url, select
from sqlalchemy.exc import IntegrityError

from deploy.dev.postgres import PostgresCluster
from deploy.dev.topology import free_port
from services.runtime.clock import system_clock
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.database import after_commit, open_database, transaction, witnessed
from services.runtime.storage.outbox import Outbox, outbox_table
from strongroom import Client
from strongroom.audit.v1.event_pb2 import Event
from tests.conftest import PrivateMeshes
from tests.support.clients import client_of, refusal
from tests.support.clocks import StillClock
from tests.support.cutting_proxy import CuttingProxy

OUTBOX = b"INSERT INTO outbox"
TABLE = outbox_table(MetaData())


def through(proxies: ExitStack, url: str) -> tuple[CuttingProxy, str]:
    """A proxy before a database, and the database's URL through it."""
    parsed = make_url(url)
    assert parsed.port is not None
    proxy = proxies.enter_context(CuttingProxy(free_port(), parsed.port))
    return proxy, parsed.set(port=proxy.port).render_as_string(hide_password=False)


@pytest.fixture
def proxies() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def cut(postgres_cluster: PostgresCluster, proxies: ExitStack) -> Iterator[tuple[Engine, CuttingProxy]]:
    """A database with an outbox, through a proxy."""
    proxy, url = through(proxies, postgres_cluster.create_database("commits"))
    engine = open_database(Database(url=url))
    TABLE.create(engine)
    yield engine, proxy
    engine.dispose()
    postgres_cluster.drop_database("commits")


def add(engine: Engine, event_id: str, done: Callable[[], None]) -> None:
    with transaction(engine) as connection:
        witnessed(connection, insert(TABLE).values(event_id=event_id, event=b"x", created_us=1))
        after_commit(connection, done)


@pytest.mark.parametrize("let_through", [True, False])
def test_it_is_found_out_whether_a_transaction_stands(cut: tuple[Engine, CuttingProxy], let_through: bool) -> None:
    engine, proxy = cut
    done: list[int] = []
    proxy.cut_commit(OUTBOX, let_through=let_through)
    if let_through:
        add(engine, "a", lambda: done.append(1))
    else:
        with pytest.raises(StrongroomError) as refused:
            add(engine, "a", lambda: done.append(1))
        assert refused.value.reason is Reason.DATABASE_UNAVAILABLE
    assert proxy.cuts == 1
    with engine.connect() as connection:
        assert len(connection.execute(select(TABLE)).all()) == len(done) == let_through


class Log:
    """Takes all events."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def append(self, events: Sequence[Event], traceparent: str = "", payer: str = "") -> None:
        del traceparent, payer
        self.ids += [event.id for event in events]


@pytest.mark.parametrize("ahead_seconds", [-60, 0, 60])
def test_no_other_process_takes_the_row_away_by_which_it_is_found_out(
    cut: tuple[Engine, CuttingProxy], ahead_seconds: int
) -> None:
    engine, _ = cut
    clock, passed, log = StillClock(system_clock.now_us()), [0.0], Log()
    clock.us += ahead_seconds * 1_000_000
    other = Outbox(engine, log, clock=clock, monotonic=lambda: passed[0])
    row = {"event_id": "a", "event": Event(id="a").SerializeToString(), "created_us": system_clock.now_us()}
    with transaction(engine) as connection:
        witnessed(connection, insert(TABLE).values(row))
    for seconds in (0.0, 2.0, 4.9):
        passed[0] = seconds
        other.sweep()
    assert log.ids == []
    # By its own clock as well it has been there for long now.
    clock.us += 6_000_000
    other.sweep()
    passed[0] += 5.0
    other.sweep()
    assert log.ids == ["a"]
    with engine.connect() as connection:
        assert connection.execute(select(TABLE)).all() == []


def test_a_key_that_is_taken_is_no_lost_answer(cut: tuple[Engine, CuttingProxy]) -> None:
    engine, _ = cut
    add(engine, "a", lambda: None)
    with pytest.raises(IntegrityError):
        add(engine, "a", lambda: None)


def test_what_cannot_be_found_out_is_said(cut: tuple[Engine, CuttingProxy]) -> None:
    engine, proxy = cut
    with engine.connect():
        # From here on there is no way to the database but the one that there is.
        proxy.refuses = True
    proxy.cut_commit(OUTBOX, let_through=True)
    with pytest.raises(StrongroomError) as refused:
        add(engine, "b", lambda: None)
    proxy.refuses = False
    assert refused.value.reason is Reason.CHANGE_UNDECIDED


def test_a_change_is_made_once_though_its_commit_is_not_answered(
    private_mesh: PrivateMeshes, postgres_cluster: PostgresCluster, proxies: ExitStack
) -> None:
    urls = {service: postgres_cluster.create_database(f"{service}_cut") for service in ("keystore", "secrets")}
    before = {service: through(proxies, url) for service, url in urls.items()}
    mesh = private_mesh(database_urls={service: url for service, (_, url) in before.items()})
    with client_of(mesh) as client:
        key = client.keys.create("k").name
        client.secrets.create("s", b"1", key=key)
        for service, change, count in _changes(client, key):
            for stands in (True, False):
                made, proxy = count(), before[service][0]
                proxy.cut_commit(OUTBOX, let_through=stands)
                if stands:
                    change()
                else:
                    assert refusal(change).reason == "DATABASE_UNAVAILABLE"
                    assert count() == made
                    change()
                assert count() == made + 1
        assert [proxy.cuts for proxy, _ in before.values()] == [6, 4]


def _changes(client: Client, key: str) -> Iterator[tuple[str, Callable[[], object], Callable[[], int]]]:
    ids = iter(range(1_000))

    def newest() -> str:
        return f"of-{next(ids)}"

    yield (
        "secrets",
        lambda: client.secrets.put_value("s", newest().encode()),
        lambda: len(list(client.secrets.versions.list("s"))),
    )
    yield "secrets", lambda: client.secrets.create(newest(), b"x", key=key), lambda: len(list(client.secrets.list()))
    yield "keystore", lambda: client.keys.create(newest()), lambda: len(list(client.keys.list()))
    yield "keystore", lambda: client.keys.aliases.create(newest(), key), lambda: len(list(client.keys.aliases.list()))
    yield (
        "keystore",
        lambda: client.access.principals.create(f"users/{newest()}"),
        lambda: len(list(client.access.principals.list())),
    )
