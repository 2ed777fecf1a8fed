"""A process that another one has overtaken stands by again as it began: nothing of its time as a writer is left."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import psutil

from deploy.dev.mesh import Mesh
from tests.conftest import PrivateMeshes
from tests.support.clients import until

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
