"""A process that another one has overtaken stands by again as it began: nothing of its time as a writer is left. Nor
does it need a person where its database has lost commits."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import psutil

from deploy.dev.mesh import Mesh
from strongroom import Client
from strongroom.calls.audit.events import Event
from strongroom.tlog import merkle
from tests.conftest import PrivateMeshes
from tests.support.clients import client_of, reason_of, until

TIMES = 6
SERVING_SECONDS = 30.0


def test_nothing_is_left_of_a_writer_that_was_overtaken(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh()
    _overtake(mesh)
    before = _held(mesh)
    for _ in range(TIMES):
        _overtake(mesh)
    after = _held(mesh)
    grown = {name: (before[name], count) for name, count in after.items() if count >= before[name] + TIMES}
    assert grown == {}, (before, after)


def _overtake(mesh: Mesh) -> None:
    """Counts the writers up as another process would that took over; returns once this one has won again."""
    written = _errors(mesh).stat().st_size
    with closing(sqlite3.connect(mesh.directory.data / "audit.db", timeout=10)) as database, database:
        database.execute("UPDATE heads SET epoch = epoch + 1")
    until(lambda: b'"message": "serving"' in _errors(mesh).read_bytes()[written:], SERVING_SECONDS)


def _errors(mesh: Mesh) -> Path:
    return mesh.process("audit").output_files[1]


def _held(mesh: Mesh) -> Counter[str]:
    """What the process has open, by what it is, and its threads."""
    process = psutil.Process(mesh.process("audit").pid)
    held = Counter({"threads": process.num_threads()})
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        held[str(descriptor.readlink()).partition(":")[0]] += 1
    return held


def test_a_database_that_lost_its_newest_commits_locks_nobody_out(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh()
    with client_of(mesh) as client:
        key = client.keys.create("payments").name
        lost_at: list[int] = []

        def lose() -> bool:
            client.encrypt(key, b"x")
            lost_at.extend(_lose_what_is_not_signed(mesh))
            return bool(lost_at)

        until(lose, SERVING_SECONDS)
        # Opened anew by the only process there is, with nobody's help.
        until(lambda: not reason_of(lambda: client.encrypt(key, b"y")), SERVING_SECONDS)
        until(lambda: not reason_of(lambda: client.encrypt(key, b"y")) and bool(_losses(client)), SERVING_SECONDS)
        (told,) = _losses(client)
        assert told.reason == "AUDIT_EVENTS_LOST"
        assert int(told.attributes["size_before"]) >= lost_at[0]


def _losses(client: Client) -> list[Event]:
    return list(client.audit.events.list(parent="services/audit", action="audit:FindLoss"))


def _lose_what_is_not_signed(mesh: Mesh) -> list[int]:
    """What a failover to a standby that was behind does to the log: how many leaves it had; none where all are signed
    at this moment."""
    with closing(sqlite3.connect(mesh.directory.data / "audit.db", timeout=10)) as database, database:
        database.execute("BEGIN IMMEDIATE")
        ((size,),) = database.execute("SELECT size FROM heads")
        ((signed,),) = database.execute("SELECT coalesce(max(tree_size), 0) FROM checkpoints")
        if signed in (0, size):
            return []
        ((high_us, leaf),) = database.execute("SELECT high_us, leaf FROM leaves WHERE leaf_index = ?", (signed - 1,))
        database.execute("DELETE FROM leaves WHERE leaf_index >= ?", (signed,))
        (last_hash,) = merkle.leaf_hashes([leaf])
        database.execute("UPDATE heads SET size = ?, high_us = ?, last_hash = ?", (signed, high_us, last_hash))
        return [size]
