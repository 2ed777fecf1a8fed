"""A primary that becomes read-only while a standby is promoted: what is written meanwhile is refused as to be tried
again, and the pool finds the new primary by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, insert, make_url, text

from deploy.dev.postgres import PostgresCluster, find_postgres
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.hosting import components
from services.runtime.storage.database import open_database, reading, transaction
from services.runtime.storage.history import History
from tests.support.clients import until

DATABASE = "failover"


@pytest.fixture
def pair() -> Iterator[tuple[PostgresCluster, PostgresCluster, str]]:
    """A primary, its hot standby, and the URL of a database that names both."""
    binaries = find_postgres()
    if binaries is None:
        pytest.skip("PostgreSQL's server (initdb, postgres) is not installed")
    with PostgresCluster(binaries) as primary:
        url = make_url(primary.create_database(DATABASE))
        with PostgresCluster(binaries, primary=primary) as standby:
            hosts = f"{url.host}:{primary.port}", f"{url.host}:{standby.port}"
            url = url.set(host=None, port=None, query={"host": hosts})
            yield primary, standby, url.render_as_string(hide_password=False)


def write(engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(text("INSERT INTO t VALUES (1)"))


def count(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(connection.execute(text("SELECT count(*) FROM t")).scalar_one())


def test_a_promotion_is_survived_by_the_pool(pair: tuple[PostgresCluster, PostgresCluster, str]) -> None:
    primary, standby, url = pair
    engine = open_database(Database(url=url, pool_size=4))
    check = components.database(engine)
    with transaction(engine) as connection:
        connection.execute(text("CREATE TABLE t (n INTEGER)"))
    # Sessions of before, several of them in the pool.
    with engine.connect(), engine.connect(), engine.connect():
        write(engine)
    check()
    started_over: list[None] = []
    history = History(engine, lambda _: started_over.append(None))
    history.look()
    kept = Table("kept", MetaData(), Column("row_id", Integer, primary_key=True), Column("history", String))
    kept.create(engine)
    with transaction(engine) as connection:
        connection.execute(insert(kept).values(row_id=1))
    for _ in range(2):
        History(engine, lambda _: started_over.append(None), kept).look()
    assert started_over == []
    primary.fence()
    reasons = set()
    rows = 1

    def written() -> bool:
        nonlocal rows
        try:
            write(engine)
        except StrongroomError as error:
            reasons.add(error.reason)
            return False
        rows += 1
        return True

    until(lambda: not written())
    with pytest.raises(StrongroomError) as refused:
        check()
    assert refused.value.reason is Reason.DATABASE_UNAVAILABLE
    until(lambda: standby_has(standby, rows))
    standby.promote()
    until(written, 10)
    check()
    # It might have lost the last changes.
    history.look()
    history.look()
    assert len(started_over) == 1
    # Nor has a process that was not there, where that is kept; one of several tells everybody.
    for _ in range(2):
        History(engine, lambda _: started_over.append(None), kept).look()
    assert len(started_over) == 2
    assert reasons == {Reason.DATABASE_UNAVAILABLE}
    assert count(engine) == rows
    engine.dispose()


def standby_has(standby: PostgresCluster, rows: int) -> bool:
    return standby.query(DATABASE, "SELECT count(*) FROM t") == [(rows,)]
