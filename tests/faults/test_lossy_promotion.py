"""A real standby that is promoted while its primary had committed more: what is lost is lost for everybody, nobody goes
on by what there is not, and the audit log says so, or is refused where it contradicts what was signed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from deploy.dev.mesh import Mesh
from deploy.dev.postgres import PostgresCluster, find_postgres
from deploy.dev.readiness import Readiness
from deploy.dev.topology import HOST, WITH_DATABASE
from strongroom import Client
from strongroom.calls.audit.events import Event
from strongroom.tlog.tiles import tiles_between
from tests.conftest import PrivateMeshes
from tests.support.clients import client_of, reason_of, until
from tests.support.independent_log import verify_folder

HEALED_SECONDS = 30.0
_NO_CHECKPOINT = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON checkpoints FOR EACH ROW EXECUTE FUNCTION refuse();
"""
LATCHED_SECONDS = 3.0


@dataclass
class Pair:
    """A primary, and a standby that commits do not wait for."""

    primary: PostgresCluster
    standby: PostgresCluster
    urls: dict[str, str]

    @contextmanager
    def losing(self) -> Iterator[None]:
        """What is committed meanwhile is lost when it ends: the primary is gone then, and the standby takes over."""
        until(self._has_caught_up, HEALED_SECONDS)
        self.standby.fall_behind()
        yield
        self.primary.kill()
        self.standby.promote()
        self.primary = self.standby

    def _has_caught_up(self) -> bool:
        written = self.primary.query("postgres", "SELECT pg_current_wal_lsn()")
        return written == self.standby.query("postgres", "SELECT pg_last_wal_replay_lsn()")

    def connect(self, service: str) -> psycopg.Connection[Any]:
        url = make_url(self.urls[service])
        return psycopg.connect(
            host=HOST, port=self.primary.port, user=url.username, password=url.password, dbname=service
        )


@pytest.fixture
def pair() -> Iterator[Pair]:
    binaries = find_postgres()
    if binaries is None:
        pytest.skip("PostgreSQL's server (initdb, postgres) is not installed")
    with PostgresCluster(binaries) as primary:
        urls = {service: make_url(primary.create_database(service)) for service in WITH_DATABASE}
        with PostgresCluster(binaries, primary=primary) as standby:
            hosts = tuple(f"{HOST}:{cluster.port}" for cluster in (primary, standby))
            named = {
                service: url.set(host=None, port=None, query={"host": hosts}).render_as_string(hide_password=False)
                for service, url in urls.items()
            }
            yield Pair(primary, standby, named)


def test_what_a_promotion_lost_is_told_and_nobody_goes_on_by_it(
    private_mesh: PrivateMeshes, pair: Pair, tmp_path: Path
) -> None:
    mesh = private_mesh(database_urls=pair.urls)
    with client_of(mesh) as client:
        kept = client.keys.create("kept").name
        client.secrets.create("password", b"kept")
        sealed = client.encrypt(kept, b"x").ciphertext
        # The session ends after the primary has.
        with closing(pair.connect("audit")) as session, pair.losing():
            # No checkpoint is signed of what is about to be lost; a lock would hold up appends, too.
            session.execute(_NO_CHECKPOINT)
            session.commit()
            lost = [_lost(client, kept) for _ in range(3)][-1]
            ((size,),) = session.execute("SELECT size FROM heads").fetchall()
        # Healed by nobody.
        until(lambda: not reason_of(lambda: client.encrypt(kept, b"y")), HEALED_SECONDS)
        until(lambda: bool(_losses(client)), HEALED_SECONDS)
        (told,) = _losses(client)
        assert told.reason == "AUDIT_EVENTS_LOST"
        assert int(told.attributes["size_before"]) >= size > int(told.attributes["size_found"])
        # What was changed in vain is as it was, for everybody who had seen it otherwise.
        assert client.decrypt(sealed).plaintext == b"x"
        until(lambda: client.secrets.get_value("password").value == b"kept", HEALED_SECONDS)
        until(lambda: reason_of(lambda: client.encrypt("in-vain-3", b"z")) == "KEY_NOT_FOUND", HEALED_SECONDS)
        assert lost not in [event.id for event in client.audit.events.list(timeout=30)]
        # And is done anew under the same names and numbers.
        client.keys.create("in-vain-3")
        assert client.secrets.put_value("password", b"after").name.endswith("/2")
        until(lambda: client.secrets.get_value("password").value == b"after", HEALED_SECONDS)
        _verify(client, tmp_path)


def test_a_log_that_contradicts_what_was_signed_is_refused_until_a_person_has_looked(
    private_mesh: PrivateMeshes, pair: Pair, tmp_path: Path
) -> None:
    mesh = private_mesh(database_urls=pair.urls)
    with client_of(mesh) as client:
        key = client.keys.create("kept").name
        with closing(pair.connect("audit")) as session, pair.losing():
            client.encrypt(key, b"x")
            until(lambda: _is_signed(session), HEALED_SECONDS)
        until(lambda: not _serves(mesh), HEALED_SECONDS)
        # It stays so: a restart by a probe would forget what was signed.
        assert not _serves(mesh, LATCHED_SECONDS)
        assert reason_of(lambda: client.encrypt(key, b"y")) in ("AUDIT_STORAGE_FAILED", "AUDIT_UNREACHABLE")
        mesh.restart("audit")
        until(lambda: not reason_of(lambda: client.encrypt(key, b"y")), HEALED_SECONDS)
        _verify(client, tmp_path)


def _lost(client: Client, kept: str) -> str:
    """Changes of every kind, and operations; the id of the last event."""
    number = len([key for key in client.keys.list() if "in-vain" in key.name]) + 1
    made = client.keys.create(f"in-vain-{number}").name
    client.encrypt(made, b"x")
    client.secrets.put_value("password", f"in vain {number}".encode())
    assert client.secrets.get_value("password").value.startswith(b"in vain")
    client.keys.update(kept, f"in vain {number}")
    return client.encrypt(kept, b"x").event_id


def _losses(client: Client) -> list[Event]:
    return list(client.audit.events.list(parent="services/audit", action="audit:FindLoss"))


def _is_signed(session: psycopg.Connection[Any]) -> bool:
    row = session.execute("SELECT max(tree_size) >= (SELECT size FROM heads) FROM checkpoints").fetchone()
    session.rollback()
    return bool(row and row[0])


def _serves(mesh: Mesh, seconds: float = 0.5) -> bool:
    address = mesh.address("audit", "public")
    return Readiness("audit", address, mesh.trust, seconds=seconds, still_hopeful=lambda: True).missing(1, None) is None


def _verify(client: Client, directory: Path) -> None:
    """The log is whole from its first event to its last."""
    checkpoint = client.audit.logs.get_checkpoint()
    (log,) = client.audit.logs.list()
    for path in tiles_between(0, checkpoint.tree_size):
        file = directory / str(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(client.audit.logs.get_tile(str(path)))
    (directory / "checkpoint").write_bytes(checkpoint.note)
    assert verify_folder(directory, log.keys[0].verifier_key)[0] == checkpoint.tree_size
