"""A replica that hangs stops the door for a moment, and loses none of the calls that it had."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import hvac
import psutil
import pytest

from deploy.dev.doors import Doors
from deploy.dev.mesh import Mesh
from deploy.dev.replicas import replica
from tests.doors.conftest import MOUNTS

CALLERS = 8
# A call that waits for its own time to be over takes ten.
LONGEST_SECONDS = 8.0


@pytest.fixture
def hanging(mesh: Mesh, token: str) -> Iterator[tuple[hvac.Client, psutil.Process]]:
    """A client of a door that calls the first of two replicas of crypto, and that replica."""
    with replica(mesh, "crypto") as listeners:
        upstream = {"crypto": f"{listeners.internal},{mesh.address('crypto', 'internal')}"}
        with Doors(mesh, settings={"upstream": upstream, "vault": {"mounts": MOUNTS}}) as doors:
            client = hvac.Client(url=doors.address, token=token)
            process = listening_at(listeners.internal)
            yield client, process
            process.send_signal(signal.SIGCONT)
            client.adapter.close()


def listening_at(address: str) -> psutil.Process:
    port = int(address.rpartition(":")[2])
    found = (one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN)
    return psutil.Process(next(one.pid for one in found if one.pid and tuple(one.laddr)[1:2] == (port,)))


def test_calls_go_on_at_the_other(hanging: tuple[hvac.Client, psutil.Process], name: str) -> None:
    vault, process = hanging
    vault.secrets.transit.create_key(name)

    def encrypt(_number: int) -> float:
        begun = time.monotonic()
        assert vault.secrets.transit.encrypt_data(name, plaintext="YQ==")["data"]["ciphertext"]
        return time.monotonic() - begun

    encrypt(0)
    process.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(CALLERS) as pool:
        assert max(pool.map(encrypt, range(CALLERS))) < LONGEST_SECONDS
    assert encrypt(0) < LONGEST_SECONDS
