"""MariaDB, unchanged, with Debian's plugin for Vault: its tables are encrypted under a secret of the mesh."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.dev.doors import Doors
from deploy.dev.mesh import Mesh
from strongroom import Client
from tests.doors.conftest import MOUNTS
from tests.doors.mariadb import PLUGIN, EncryptedMariaDb
from tests.support import access
from tests.support.clients import until

ROWS = 200


@dataclass
class World:
    """A database server, the door that is its own, who it is in the mesh, and the key that its key is under."""

    database: EncryptedMariaDb
    doors: Doors
    machine: str
    key: str


def material() -> bytes:
    return json.dumps({"data": secrets.token_hex(32)}).encode()


@pytest.fixture
def world(mesh: Mesh, administrator: Client, tmp_path: Path, name: str) -> Iterator[World]:
    if not PLUGIN.exists():
        pytest.skip("mariadb-plugin-hashicorp-key-management is not installed")
    administrator.keys.create(name)
    administrator.secrets.create("mariadb/1", material(), key=name)
    machine = access.workload(
        administrator,
        permits='permit (principal, action in [Strongroom::Action::"secrets:GetSecretValue", '
        'Strongroom::Action::"crypto:Decrypt"], resource);',
    )
    credential = access.client_key(administrator, machine)
    token = f"{credential.name.rpartition('/')[2]}.{credential.secret}"
    tmp_path.chmod(0o755)
    directory = Path("/tmp") / f"strongroom-{name}"  # noqa: S108  # its socket's path has to be short
    directory.mkdir()
    with Doors(mesh, tls=True, settings={"vault": {"mounts": MOUNTS}}) as doors:
        database = EncryptedMariaDb(directory, f"{doors.address}/v1/mariadb", token, mesh.authority.trust)
        try:
            database.install()
            yield World(database, doors, machine, name)
        finally:
            database.stop()


def test_an_encrypted_database_lives_and_dies_with_its_key(world: World, administrator: Client) -> None:
    database, marker = world.database, secrets.token_hex(8)
    assert database.start(), database.log.read_text()[-3000:]
    database.query("CREATE DATABASE shop")
    database.query("CREATE TABLE shop.orders (id INT PRIMARY KEY, note VARCHAR(200)) ENGINE=InnoDB")
    values = ", ".join(f"({number}, 'note {marker} {number}')" for number in range(ROWS))
    database.query(f"INSERT INTO shop.orders VALUES {values}")  # noqa: S608  # our own numbers
    # A sort that needs a temporary file.
    database.query("SELECT note FROM shop.orders ORDER BY note DESC")
    events = list(administrator.audit.events.list(principal=world.machine, limit=50))
    reads = [event for event in events if event.action == "secrets:GetSecretValue"]
    assert reads
    assert {event.via_service for event in reads} == {"services/doors"}
    assert "accounts/default/secrets/mariadb/1" in {event.resource for event in reads}

    # While the door is away the server goes on with the key that it has.
    world.doors.stop()
    assert database.query("SELECT COUNT(*) FROM shop.orders") == ((ROWS,),)
    database.stop()
    assert database.holds(marker.encode()) == []
    # It does not start without the door, and says why.
    assert not database.start()
    assert "hashicorp" in database.log.read_text().lower()

    world.doors.start()
    assert database.start(), database.log.read_text()[-3000:]
    assert database.query("SELECT COUNT(*) FROM shop.orders") == ((ROWS,),)

    # A new version of the key is taken up, and what is under the old one stays readable.
    administrator.secrets.put_value("mariadb/1", material())

    def key_version() -> int:
        found = database.query(
            "SELECT CURRENT_KEY_VERSION FROM information_schema.INNODB_TABLESPACES_ENCRYPTION "
            "WHERE NAME = 'shop/orders'"
        )
        return int(found[0][0])

    until(lambda: key_version() == 2, 30)
    database.stop()
    assert database.start(), database.log.read_text()[-3000:]
    assert database.query("SELECT COUNT(*) FROM shop.orders") == ((ROWS,),)
    database.stop()
    assert database.holds(marker.encode()) == []

    # The key that the database's key is under is rotated, too: what it wrapped it opens afterwards.
    administrator.keys.rotate(world.key)
    assert database.start(), database.log.read_text()[-3000:]
    assert database.query("SELECT COUNT(*) FROM shop.orders") == ((ROWS,),)
    database.stop()

    # With its key disabled it does not start, and its log has the reason as the mesh told it.
    administrator.keys.disable(world.key)
    access.settle()
    assert not database.start()
    assert "KEY_DISABLED" in database.log.read_text()
    administrator.keys.enable(world.key)
    until(database.start, 10)
    assert database.query("SELECT COUNT(*) FROM shop.orders") == ((ROWS,),)
