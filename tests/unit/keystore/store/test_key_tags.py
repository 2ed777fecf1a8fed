"""Keys are found by their tags along an index, and the index is what the keys say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, insert, select, text

from deploy.dev.mesh import SOURCE
from deploy.dev.postgres import PostgresCluster
from services.keystore.store import filters, store, tables
from services.keystore.store.model import Key
from services.runtime.requests.names import ResourceName
from services.runtime.storage import migrations
from services.runtime.storage.database import reading, transaction
from strongroom.keystore.v1 import key_pb2 as k

TEAMS = ("blue", "green")
ODD = {"cost center": 'a "quoted" value', "größe": "naïve", "empty": ""}


def key(number: int, **tags: str) -> Key:
    return Key(
        ResourceName("default", "keys", f"key-{number:03}"),
        number.to_bytes(16, "big"),
        k.KEY_SPEC_AES_256,
        k.KEY_USAGE_ENCRYPT_DECRYPT,
        k.PROTECTION_LEVEL_SOFTWARE,
        k.KEY_ORIGIN_STRONGROOM,
        k.KEY_STATE_ENABLED,
        "",
        tags,
        deletion_protection=False,
        primary_version=1,
        revision=1,
        created_us=1,
        updated_us=1,
        rotated_us=1,
    )


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """200 keys: every other one blue, every tenth rare."""
    with transaction(engine) as connection:
        for number in range(200):
            rare = {"rare": "yes"} if number % 10 == 0 else {}
            store.insert_key(connection, key(number, team=TEAMS[number % 2], **rare))
        connection.exec_driver_sql("ANALYZE")
    return engine


def found(connection: Connection, condition: str, after: str = "", limit: int = 1000) -> list[str]:
    return [one.name.id for one in store.keys_page(connection, "default", after, limit, filters.of_keys(condition))]


def test_pages_of_tagged_keys_are_in_order(filled: Engine) -> None:
    with reading(filled) as connection:
        everything = found(connection, "tags.team = blue AND tags.rare = yes")
        assert everything == [f"key-{number:03}" for number in range(0, 200, 10)]
        pages, after = [], ""
        while page := found(connection, "tags.team = blue AND tags.rare = yes", after, 3):
            pages += page
            after = page[-1]
        assert pages == everything
        assert found(connection, "tags.team = green AND tags.rare = yes") == []


@pytest.mark.parametrize("condition", ["tags.rare = yes", "tags.team = blue AND tags.rare = yes", "tags.absent = x"])
def test_a_page_of_tagged_keys_reads_them_alone(filled: Engine, condition: str) -> None:
    statements: list[tuple[str, tuple[object, ...]]] = []

    @event.listens_for(filled, "before_cursor_execute")
    def note(_connection: object, _cursor: object, statement: str, parameters: tuple[object, ...], *_: object) -> None:
        statements.append((statement, parameters))

    with reading(filled) as connection:
        found(connection, condition, "key-100", 10)
        statement, parameters = statements[-1]
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    # By index from the page's beginning on, in its order: nothing is scanned, nothing sorted.
    assert all(step.startswith("SEARCH") for step in plan), plan
    assert "(account=? AND tag_key=? AND tag_value=? AND key_id>?)" in plan[0]


def test_tags_that_change_are_found_as_they_are_now(engine: Engine) -> None:
    made = key(1, team="blue")
    with transaction(engine) as connection:
        store.insert_key(connection, made)
        store.replace_tags(connection, replace(made, tags={"team": "green", "new": ""}))
    with reading(engine) as connection:
        assert found(connection, "tags.team = blue") == []
        assert found(connection, "tags.team = green") == found(connection, 'tags.new = ""') == ["key-001"]


@pytest.fixture(params=["sqlite", "postgresql"])
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database as the release before left it, with one key."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'older.db'}"
    else:
        cluster: PostgresCluster = request.getfixturevalue("postgres_cluster")
        url = cluster.create_database("older")
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(SOURCE / "services" / "keystore" / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0006")
        connection.execute(
            insert(tables.keys).values(
                account="default",
                key_id="old",
                uid=bytes(16),
                tags=json.dumps(ODD),
                description="",
                deletion_protection=False,
                **dict.fromkeys(
                    ("spec", "usage", "protection_level", "origin", "state", "primary_version", "revision"), 1
                ),
                **dict.fromkeys(("created_us", "updated_us", "rotated_us"), 1),
            )
        )
    yield engine
    engine.dispose()
    if request.param == "postgresql":
        cluster.drop_database("older")


def test_keys_of_an_older_release_are_found_by_their_tags(older: Engine) -> None:
    migrations.migrate(older, "keystore")
    with older.connect() as connection:
        rows = connection.execute(select(tables.key_tags)).all()
        assert {(row.tag_key, row.tag_value) for row in rows} == set(ODD.items())
        assert {(row.account, row.key_id) for row in rows} == {("default", "old")}
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) >= "0007"
