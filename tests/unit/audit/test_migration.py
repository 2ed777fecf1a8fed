"""A log from before there was a tree: everything in it is found, proved and gone on from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Engine, text

import services.audit
from services.audit.index.store import IndexStore
from services.audit.keys import sealing_wraps
from services.audit.keys.store import WrappedKey
from services.audit.log.entries import event_key
from services.audit.reading.events import Period, Query
from services.runtime import clock
from services.runtime.config import Database
from services.runtime.sensitive import SensitiveBytes
from services.runtime.storage import database, migrations
from strongroom.audit.v1.event_pb2 import Event
from strongroom.tlog import merkle
from tests.support.audit_logs import OwnRoot, append_indexed, event, opened, use_small_nodes
from tests.support.clients import until

START_NS = 1_700_000_000_000_000_000
COUNT = 700


def test_leaves_of_before_are_in_the_tree_and_found(tmp_path: Path) -> None:
    engine = database.open_database(Database(url=f"sqlite:///{tmp_path}/audit.db"))
    crypto = OwnRoot()
    events = [event(at=START_NS + number * 1_000_000_000, resource=f"key-{number % 3}") for number in range(COUNT)]
    leaves = before(engine, crypto, events)

    migrations.migrate(engine, "audit")
    log = opened(engine, crypto)
    assert log.log.tree.root() == merkle.root_of(merkle.leaf_hashes(leaves))
    assert log.log.append([event(resource="key-1")]) == [COUNT]
    assert log.source.proofs(COUNT).root() == merkle.root_of(merkle.leaf_hashes(leaves))
    found, _ = log.events.page(Query("acme", resource="key-1"), Period(), None, 1000, newest_first=False)
    assert found[:-1] == [one for one in events if one.resource == "key-1"]
    proof = log.transparency.inclusion("acme", events[300].id, 0)
    assert proof.proof.verify(leaves[300], [log.signing_keys.signers()[0].verifier_key]).size >= COUNT
    log.stop()
    engine.dispose()


def test_an_index_of_one_level_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_nodes(monkeypatch)
    engine, crypto = database.open_database(Database(url=f"sqlite:///{tmp_path}/audit.db")), OwnRoot()
    migrations.migrate(engine, "audit")
    log, store = opened(engine, crypto), IndexStore(engine)
    events = [event(at=START_NS + number * 1_000_000_000, resource=f"key-{number % 900}") for number in range(5_000)]
    append_indexed(log, events, 100)
    until(lambda: store.complete(0) == 9)
    log.stop()
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        for statement in (
            "ALTER TABLE index_blocks RENAME TO later",
            "CREATE TABLE index_blocks (block INTEGER, node INTEGER, pairs BLOB NOT NULL, PRIMARY KEY (block, node))",
            "INSERT INTO index_blocks SELECT block, node, pairs FROM later WHERE level = 0",
            "DROP TABLE later",
            "ALTER TABLE heads DROP COLUMN epoch",
            "ALTER TABLE heads DROP COLUMN beat_us",
            "DROP TABLE sealed_sets",
            "ALTER TABLE legal_holds DROP COLUMN seal",
            "ALTER TABLE retention_policies DROP COLUMN seal",
            "CREATE TABLE probes (probe_id INTEGER PRIMARY KEY, probed_us BIGINT NOT NULL)",
            "UPDATE alembic_version SET version_num = '0004'",
        ):
            connection.execute(text(statement))

    migrations.migrate(engine, "audit")
    log = opened(engine, crypto)
    assert (store.complete(0), store.complete(1)) == (9, 0)
    query = Query("acme", resource="key-7")
    wanted = [one for one in events if one.resource == "key-7"]
    assert log.events.page(query, Period(), None, 100, newest_first=False)[0] == wanted
    while store.complete(1) < 2:
        log.log.append([event()])
    assert log.events.page(query, Period(), None, 100, newest_first=False)[0] == wanted
    log.stop()
    engine.dispose()


def before(engine: Engine, crypto: OwnRoot, events: list[Event]) -> list[bytes]:
    """Fills a database as the release before left it; the leaves."""
    root, root_id, key_id, material = SensitiveBytes(os.urandom(32)), os.urandom(16), os.urandom(16), os.urandom(32)
    wrapped = sealing_wraps.wrap(root, material, WrappedKey(key_id, "acme", 1, root_id, b""))
    leaves = [_sealed(b"\x01" + key_id, AESGCM(material), one.SerializeToString()) for one in events]
    config = Config()
    config.set_main_option("script_location", str(Path(str(services.audit.__file__)).parent / "migrations"))
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.execute(
            text("INSERT INTO sealing_roots VALUES (:id, 1, :wrapped, 1)"),
            {"id": root_id, "wrapped": crypto.wrap("audit sealing root", root).blob},
        )
        connection.execute(
            text("INSERT INTO sealing_keys VALUES (:id, 'acme', 1, :root, :wrapped)"),
            {"id": key_id, "root": root_id, "wrapped": wrapped},
        )
        connection.execute(
            text("INSERT INTO leaves VALUES (:place, :id, 'acme', :time, :leaf)"),
            [
                {"place": place, "id": event_key(one), "time": clock.microseconds(one.time), "leaf": leaf}
                for place, (one, leaf) in enumerate(zip(events, leaves, strict=True))
            ],
        )
    return leaves


def _sealed(header: bytes, aead: AESGCM, event: bytes) -> bytes:
    """A leaf of format 1: the event as it is."""
    nonce = os.urandom(12)
    return header + nonce + aead.encrypt(nonce, event, header)
