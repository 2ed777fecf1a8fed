"""However a step at a target ends, nothing of it is left behind: no file fills what other accounts' steps need."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import asyncssh
import pytest
from opentelemetry.metrics import NoOpMeterProvider

from services.runtime.mesh.tls import TlsFiles
from services.secrets.kinds.known import declarations, is_outside
from services.secrets.rotation.rotators.rotator import RotationContext
from services.secrets.rotation.targets.confinement import confine, write_nothing_more
from services.secrets.rotation.targets.workers import StepLimits, TargetWorkers
from strongroom.secrets.v1 import secret_pb2 as s
from strongroom.secrets.v1 import target_pb2 as t
from tests.security.test_hostile_targets import context, key_login, reason_of_step, rotator
from tests.support import hostile_servers as hostile
from tests.support.clients import until
from tests.support.rotation.fixtures import certificate, mesh_directory, tls

__all__ = ["certificate", "mesh_directory", "tls"]

_FOLDERS = [Path(name) for name in ("/tmp", "/var/tmp", "/dev/shm", ".")]  # noqa: S108
_OUTSIDE = [kind for kind in declarations() if is_outside(kind)]
_MOST_TRUST = 64 << 10
_MIB = 1 << 20


def limits(seconds: float = 60.0, memory_bytes: int = 64 * _MIB, answer_bytes: int = 4 * _MIB) -> StepLimits:
    return StepLimits(seconds=seconds, memory_bytes=memory_bytes, answer_bytes=answer_bytes, at_once=8, share=8)


def a_byte(connection: socket.socket) -> None:
    """Reads, and says one byte, that of a PostgreSQL server which agrees to TLS."""
    connection.sendall(b"S")
    hostile.mute(connection)


def hang_up(connection: socket.socket) -> None:
    connection.close()


ENDS: dict[str, tuple[StepLimits, hostile.Behaviour]] = {
    "by its time": (limits(seconds=1.0), hostile.mute),
    "by what it is sent": (limits(answer_bytes=0), a_byte),
    "by memory": (limits(memory_bytes=2 * _MIB), a_byte),
    "with the service": (limits(), hostile.mute),
    "by itself": (limits(), hang_up),
}


@pytest.fixture(scope="module")
def ssh_key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


def of_steps(folder: Path, since: float) -> Iterator[str]:
    """What was made in a folder since by who does steps, or by the name of what is ours."""
    for entry in os.scandir(folder):
        found = entry.stat(follow_symlinks=False)
        is_theirs = found.st_uid == 65_534 if os.geteuid() == 0 else entry.name.startswith("strongroom-")
        if is_theirs and found.st_ctime >= since:
            yield entry.path


@contextmanager
def nothing_is_left() -> Iterator[None]:
    since = time.time() - 1
    yield
    assert [path for folder in _FOLDERS for path in of_steps(folder, since)] == []


def trusting(kind: s.SecretType.ValueType, port: int, host_key: str, trust: str) -> RotationContext:
    """A target that is verified by as many certificates as there may be."""
    told = context(kind, port, host_key)
    target = told.target
    for address in (target.database.address, target.redis.address):
        if address.host:
            address.tls, address.ca_pem = t.TARGET_TLS_VERIFY_FULL, trust
            address.timeout.FromSeconds(30)
    if target.HasField("grpc"):
        target.grpc.ca_pem = trust
        target.grpc.timeout.FromSeconds(30)
    if target.HasField("ssh"):
        target.ssh.timeout.FromSeconds(30)
    return told


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left_of_a_step_however_it_ends(tls: TlsFiles, ssh_key: asyncssh.SSHKey, end: str) -> None:
    given, behaviour = ENDS[end]
    authority = tls.current().trust.decode()
    trust = authority * (_MOST_TRUST // len(authority))
    workers = TargetWorkers(given, NoOpMeterProvider().get_meter("test"))
    public = ssh_key.export_public_key("openssh").decode()
    with (
        nothing_is_left(),
        closing(workers),
        hostile.serving(behaviour) as port,
        ThreadPoolExecutor(len(_OUTSIDE)) as pool,
    ):

        def step(kind: s.SecretType.ValueType) -> str:
            asked = rotator(kind, workers, tls if kind == s.SECRET_TYPE_GRPC else None)
            return reason_of_step(lambda: asked.test(trusting(kind, port, public, trust), key_login(ssh_key)))

        steps = [pool.submit(step, kind) for kind in _OUTSIDE]
        if end == "with the service":
            until(lambda: workers.in_use == len(_OUTSIDE), 30)
            workers.close()
        assert all(each.result(90) for each in steps)


def attempt(work: Callable[[], object]) -> bool:
    """Whether something is possible in a process that is confined as a step is."""
    child = os.fork()
    if child == 0:
        try:
            confine(60, 64 * _MIB, 30)
            write_nothing_more()
            work()
        except BaseException:  # noqa: BLE001  # this process is a copy of the test's, and ends here
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def write(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"x" * 4096)


def write_into_memory() -> None:
    with os.fdopen(os.memfd_create("x"), "wb") as file:
        file.write(b"x")


@pytest.mark.parametrize("folder", _FOLDERS, ids=str)
def test_not_even_a_step_that_was_taken_over_fills_a_folder(folder: Path) -> None:
    path = folder / f"strongroom-step-{os.getpid()}"
    try:
        assert not attempt(lambda: write(path))
        assert not path.exists() or path.stat().st_size == 0
    finally:
        path.unlink(missing_ok=True)


def test_a_step_that_was_taken_over_keeps_no_memory_beside_its_own() -> None:
    assert attempt(lambda: None)
    assert not attempt(write_into_memory)
