"""MariaDB, unchanged, with Debian's plugin for Vault: its tables are encrypted under a secret of the mesh."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pymysql
import pytest

from deploy.dev.doors import Doors
from deploy.dev.mesh import Mesh
from strongroom import Client
from tests.doors.conftest import MOUNTS
from tests.doors.mariadb import CACHE_SECONDS, PLUGIN, MariaDb, encrypted
from tests.support import access
from tests.support.clients import until

ROWS = 10_000
_AT_ONCE = 1000
# The plugin asks once, and a server whose door is busy just then ends.
START_SECONDS = 60
# What is more than the server's memory for sorts, and a temporary table of the storage engine's own.
SPILLING = {
    "sort": ("SELECT note FROM shop.orders ORDER BY note DESC",),
    "temporary table": (
        "CREATE TEMPORARY TABLE shop.some ENGINE=InnoDB AS SELECT * FROM shop.orders",
        "SELECT note FROM shop.some",
    ),
}
# The policies of docs/doors/vault/mariadb.md.
READS = (
    'permit (principal, action == Strongroom::Action::"secrets:GetSecretValue", '
    'resource == Strongroom::Secret::"accounts/default/secrets/%s");'
)
DECRYPTS = (
    'permit (principal, action == Strongroom::Action::"crypto:Decrypt", '
    'resource == Strongroom::Key::"accounts/default/keys/%s");'
)


@dataclass
class World:
    """A database server, the door that is its own, who it is in the mesh, its key, and the mesh's that this is
    under."""

    database: MariaDb
    doors: Doors
    machine: str
    secret: str
    key: str


def material() -> bytes:
    return json.dumps({"data": secrets.token_hex(32)}).encode()


@pytest.fixture
def folder(name: str) -> Iterator[Path]:
    """Of a server: its socket's path has to be short."""
    if not PLUGIN.exists():
        pytest.skip("mariadb-plugin-hashicorp-key-management is not installed")
    directory = Path("/tmp") / f"strongroom-{name}"  # noqa: S108
    directory.mkdir()
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def world(mesh: Mesh, administrator: Client, folder: Path, name: str) -> Iterator[World]:
    secret = f"{name}/1"
    administrator.keys.create(name)
    administrator.secrets.create(secret, material(), key=name)
    machine = access.workload(administrator, permits=READS % secret)
    administrator.access.policies.create(name, DECRYPTS % name, attached_to=[machine])
    credential = access.client_key(administrator, machine)
    token = f"{credential.name.rpartition('/')[2]}.{credential.secret}"
    mounts = {**MOUNTS, "mariadb": {"type": "kv-v2", "prefix": name}}
    with Doors(mesh, tls=True, settings={"vault": {"mounts": mounts}}) as doors:
        database = encrypted(folder, f"{doors.address}/v1/mariadb", token, mesh.authority.trust)
        try:
            database.install()
            yield World(database, doors, machine, secret, name)
        finally:
            database.stop()


def filled(database: MariaDb, marker: str) -> None:
    """Orders, each with a marker."""
    database.query("CREATE DATABASE shop")
    database.query("CREATE TABLE shop.orders (id INT PRIMARY KEY, note VARCHAR(400)) ENGINE=InnoDB")
    for begin in range(0, ROWS, _AT_ONCE):
        notes = (f"({number}, 'note {marker} {number} {'x' * 300}')" for number in range(begin, begin + _AT_ONCE))
        database.query(f"INSERT INTO shop.orders VALUES {', '.join(notes)}")  # noqa: S608  # our own numbers


def orders(database: MariaDb) -> int:
    """How many there are."""
    return int(database.query("SELECT COUNT(*) FROM shop.orders")[0][0])


def test_what_is_not_encrypted_is_found(folder: Path) -> None:
    """By the search that finds nothing in an encrypted server."""
    database, marker = MariaDb(folder), secrets.token_hex(8)
    database.install()
    try:
        assert database.start()
        filled(database, marker)
        for what, statements in SPILLING.items():
            where = "tmp/" if what == "sort" else "data/ibtmp1"
            with database.reading(*statements):
                until(lambda where=where: where in " ".join(database.holds_open(marker.encode())), 20)  # type: ignore[misc]
    finally:
        database.stop()
    assert {"orders.ibd", "binlog.000001", "ib_logfile0"} <= set(database.holds(marker.encode()))


def test_an_encrypted_database_lives_and_dies_with_its_key(world: World, administrator: Client) -> None:
    database, marker = world.database, secrets.token_hex(8)
    until(database.start, START_SECONDS)
    filled(database, marker)
    for statements in SPILLING.values():
        with database.reading(*statements):
            # The server writes its pages a moment later.
            time.sleep(1)
            assert database.holds_open(marker.encode()) == []
    events = list(administrator.audit.events.list(principal=world.machine, limit=50))
    reads = [event for event in events if event.action == "secrets:GetSecretValue"]
    assert {event.via_service for event in reads} == {"services/doors"}
    assert f"accounts/default/secrets/{world.secret}" in {event.resource for event in reads}

    # While the door is away the server goes on with the key that it has, longer than it is to remember it.
    world.doors.stop()
    database.forgets()
    for number in range(2):
        time.sleep(CACHE_SECONDS + 0.5)
        database.query("INSERT INTO shop.orders VALUES (%s, 'while the door is away')", (ROWS + number,))
        assert orders(database) == ROWS + number + 1
    database.stop()
    assert database.holds(marker.encode()) == []
    # It does not start without the door, and says why.
    assert not database.start()
    assert "Failed to connect to 127.0.0.1" in database.log.read_text()

    world.doors.start()
    until(database.start, START_SECONDS)
    assert orders(database) == ROWS + 2

    # A new version of the key is taken up, and what is under the old one stays readable.
    administrator.secrets.put_value(world.secret, material())

    def key_version() -> int:
        found = database.query(
            "SELECT CURRENT_KEY_VERSION FROM information_schema.INNODB_TABLESPACES_ENCRYPTION "
            "WHERE NAME = 'shop/orders'"
        )
        return int(found[0][0])

    database.forgets()
    until(lambda: key_version() == 2, 30)
    database.stop()
    until(database.start, START_SECONDS)
    assert orders(database) == ROWS + 2
    database.stop()
    assert database.holds(marker.encode()) == []

    # The key that the database's key is under is rotated, too: what it wrapped it opens afterwards.
    administrator.keys.rotate(world.key)
    until(database.start, START_SECONDS)
    assert orders(database) == ROWS + 2


def test_a_server_ends_when_its_key_is_refused(world: World, administrator: Client) -> None:
    database = world.database
    until(database.start, START_SECONDS)
    filled(database, "note")
    # It ends when it asks for its key to write the next page, and its log has the reason as the mesh told it.
    administrator.keys.disable(world.key)
    database.forgets()
    # It writes pages at once.
    database.query("SET GLOBAL innodb_max_dirty_pages_pct = 0")

    def ended() -> bool:
        with suppress(pymysql.Error):
            database.query("UPDATE shop.orders SET note = REVERSE(note) LIMIT 100")
        return not database.runs()

    until(ended, CACHE_SECONDS + 60)
    assert "KEY_DISABLED" in database.log.read_text()
    # Nor does it start.
    assert not database.start()
    assert "KEY_DISABLED" in database.log.read_text()
    administrator.keys.enable(world.key)
    until(database.start, START_SECONDS)
    assert orders(database) == ROWS
