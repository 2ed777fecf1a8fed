"""The log through kills, lost databases and rivals: nothing acknowledged is missing, no place is given twice, every
checkpoint goes on from every earlier one. Checked by a verifier that shares no code with the service."""

from __future__ import annotations

import itertools
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from deploy.dev.mesh import SOURCE, Mesh
from deploy.dev.processes import Process
from services.audit.storage.files import free_bytes
from strongroom import Client, StrongroomError
from strongroom.calls.audit.logs import Checkpoint
from tests.conftest import POSTGRES_SOFTHSM, SQLITE_LOCAL, VARIANTS, PrivateMeshes
from tests.support.clients import client_of, reason_of, until
from tests.support.independent_log import open_note, open_proof, verify_consistency

LOAD_SECONDS = 1.0
HEALING_SECONDS = 60.0


class Watched:
    """Callers that use a key, and someone who keeps every checkpoint, while things go wrong."""

    def __init__(self, mesh: Mesh) -> None:
        self._client = client_of(mesh, timeout=3.0)
        self.key = self._client.keys.create("payments").name
        self.acknowledged: list[str] = []
        self.checkpoints: dict[int, Checkpoint] = {}
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._use) for _ in range(3)]
        self._threads.append(threading.Thread(target=self._keep_checkpoints))
        for thread in self._threads:
            thread.start()

    def went_on(self) -> None:
        """Returns once further uses were acknowledged, and a further checkpoint was kept."""
        before = len(self.acknowledged), len(self.checkpoints)
        until(lambda: len(self.acknowledged) > before[0] + 5 and len(self.checkpoints) > before[1], HEALING_SECONDS)

    def verify(self) -> None:
        """Ends the load, and checks all of it."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        with self._client as client:
            until(lambda: not reason_of(client.audit.logs.list), HEALING_SECONDS)
            (log,) = client.audit.logs.list()
            (vkey,) = (key.verifier_key for key in log.keys)
            places = [self._place(client, event_id, vkey) for event_id in self.acknowledged]
            assert len(set(places)) == len(places)
            kept = sorted(self.checkpoints.values(), key=lambda checkpoint: checkpoint.tree_size)
            assert len(kept) > 1
            for old, new in itertools.pairwise(kept):
                assert open_note(old.note, vkey) == (log.origin, old.tree_size, old.root_hash)
                proof = client.audit.logs.get_consistency_proof(old.tree_size, new.tree_size, timeout=10)
                sizes = (old.tree_size, new.tree_size)
                verify_consistency(*sizes, old.root_hash, new.root_hash, list(proof.hashes))

    def _place(self, client: Client, event_id: str, vkey: str) -> int:
        proof = client.audit.logs.get_inclusion_proof(event_id, timeout=10)
        place, _ = open_proof(proof.proof, proof.leaf, vkey)
        return place

    def _use(self) -> None:
        while not self._stopping.is_set():
            with suppress(StrongroomError):
                self.acknowledged.append(self._client.encrypt(self.key, b"x", timeout=2).event_id)
            time.sleep(0.05)

    def _keep_checkpoints(self) -> None:
        while not self._stopping.wait(0.2):
            try:
                found = self._client.audit.logs.get_checkpoint(timeout=2)
            except StrongroomError:
                continue
            before = self.checkpoints.setdefault(found.tree_size, found)
            assert before.root_hash == found.root_hash


@contextmanager
def watched(mesh: Mesh) -> Iterator[Watched]:
    load = Watched(mesh)
    load.went_on()
    try:
        yield load
    finally:
        load.verify()


@pytest.mark.parametrize("variant", VARIANTS)
def test_killed_at_random_moments_under_load(private_mesh: PrivateMeshes, variant: str) -> None:
    mesh = private_mesh(variant)
    with watched(mesh) as load:
        for number in range(3):
            time.sleep(LOAD_SECONDS + number * 0.137)
            mesh.kill("audit")
            mesh.launch("audit")
            load.went_on()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_second_sequencer_stands_by_and_takes_over(private_mesh: PrivateMeshes, variant: str) -> None:
    mesh = private_mesh(variant)
    # With the very same addresses: one that stands by listens on none.
    rival = Process("audit-rival", mesh.process("audit").command, logs=mesh.directory.logs, directory=SOURCE)
    with watched(mesh) as load:
        rival.start()
        try:
            until(lambda: "standing by" in rival.tail(), HEALING_SECONDS)
            load.went_on()
            assert rival.running
            mesh.kill("audit")
            until(lambda: "this process writes the audit log" in rival.tail(50), HEALING_SECONDS)
            load.went_on()
        finally:
            rival.kill()
        mesh.launch("audit")
        load.went_on()


def test_a_database_that_goes_away_and_comes_back(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh(POSTGRES_SOFTHSM)
    url = make_url(mesh.database_url("audit"))
    administration = psycopg.connect(
        host=url.host, port=url.port, user=url.username, password=url.password, dbname="postgres", autocommit=True
    )
    with administration, watched(mesh) as load, client_of(mesh, timeout=3.0) as client:
        for _ in range(2):
            administration.execute(f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS false')
            administration.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (url.database,)
            )
            until(lambda: reason_of(lambda: client.encrypt(load.key, b"x")).startswith("AUDIT_"), HEALING_SECONDS)
            administration.execute(f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS true')
            load.went_on()


def test_cut_connections_beside_a_standby_lock_nobody_out(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh(POSTGRES_SOFTHSM)
    url = make_url(mesh.database_url("audit"))
    administration = psycopg.connect(
        host=url.host, port=url.port, user=url.username, password=url.password, dbname="postgres", autocommit=True
    )
    # With the very same addresses: one that takes over while the other still drains cannot listen yet, and ends.
    rival = Process("audit-rival", mesh.process("audit").command, logs=mesh.directory.logs, directory=SOURCE)
    with administration, watched(mesh) as load:
        try:
            for _ in range(4):
                if not rival.running:
                    rival.start()
                if not mesh.process("audit").running:
                    mesh.launch("audit", wait=False)
                administration.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (url.database,)
                )
                load.went_on()
        finally:
            rival.kill()
        if not mesh.process("audit").running:
            mesh.launch("audit", wait=False)
        load.went_on()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    directory = tmp_path / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(directory)], check=True)
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.mark.parametrize("refuse_mib", [4, 0], ids=["refused before", "refused by the database"])
def test_a_disk_that_fills_up_and_is_emptied(private_mesh: PrivateMeshes, small_disk: Path, refuse_mib: int) -> None:
    settings = {"audit": {"log": {"warn_free_mib": 8, "refuse_free_mib": refuse_mib}}}
    urls = {"audit": f"sqlite:///{small_disk}/audit.db"}
    mesh = private_mesh(SQLITE_LOCAL, settings=settings, database_urls=urls)
    ballast = small_disk / "ballast"
    with watched(mesh) as load, client_of(mesh, timeout=3.0) as client:
        _fill(ballast, leave=refuse_mib << 19)
        until(lambda: reason_of(lambda: client.encrypt(load.key, b"x")) == "AUDIT_STORAGE_FULL", HEALING_SECONDS)
        if refuse_mib:
            until(
                lambda: "the free space for the log crossed a limit" in mesh.process("audit").tail(200), HEALING_SECONDS
            )
        ballast.unlink()
        load.went_on()
        if refuse_mib:
            until(lambda: any(_low_storage(client)), HEALING_SECONDS)


def _fill(ballast: Path, leave: int) -> None:
    """Takes all but so much of a file system."""
    with ballast.open("ab", buffering=0) as file:
        while free_bytes(ballast.parent) > leave:
            try:
                file.write(bytes(4096))
            except OSError:
                return


def _low_storage(client: Client) -> Iterator[bool]:
    for event in client.audit.events.list(parent="services/audit", action="audit:WatchStorage"):
        yield event.action == "audit:WatchStorage"
