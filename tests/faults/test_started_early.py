"""A service that is started before its database waits for it, and for as long as it is not there for good."""

from __future__ import annotations

import logging
import threading
import time

import pytest
from sqlalchemy import make_url

from deploy.dev.postgres import PostgresCluster
from deploy.dev.topology import HOST, free_port
from services.runtime.config import Database
from services.runtime.storage import database, migrations
from tests.support.cutting_proxy import CuttingProxy

SERVICE = "secrets"


@pytest.mark.parametrize(("message", "answered"), [(1, False), (3, True), (6, False), (11, True), (40, False)])
def test_a_connection_lost_at_the_start_is_made_again(
    postgres_cluster: PostgresCluster, message: int, *, answered: bool
) -> None:
    with CuttingProxy(free_port(), postgres_cluster.port) as proxy:
        engine = database.open_database(Database(url=at(postgres_cluster, proxy.port)))
        for work in (migrations.migrate, migrations.require_current):
            engine.dispose()
            proxy.cut_at(message, let_through=answered)
            work(engine, SERVICE)
        engine.dispose()
    postgres_cluster.drop_database("early")


def test_what_is_waited_for_is_said_in_one_line(
    postgres_cluster: PostgresCluster, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    engine = database.open_database(Database(url=at(postgres_cluster, port)))
    waiting = threading.Thread(target=migrations.migrate, args=(engine, SERVICE))
    with caplog.at_level(logging.WARNING):
        waiting.start()
        time.sleep(2)
        with CuttingProxy(port, postgres_cluster.port):
            waiting.join(20)
            assert not waiting.is_alive()
            engine.dispose()
    said = [record for record in caplog.records if record.message == "waiting for the database"]
    assert len(said) == 1
    assert said[0].exc_info is None
    postgres_cluster.drop_database("early")


def at(cluster: PostgresCluster, port: int) -> str:
    """A new database, by way of another port."""
    url = make_url(cluster.create_database("early"))
    return url.set(host=HOST, port=port).render_as_string(hide_password=False)
