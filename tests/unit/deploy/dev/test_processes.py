"""One process of the mesh, and the ports it is given."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy.dev.directory import MeshDirectory
from deploy.dev.processes import Process, set_aside
from deploy.dev.topology import SERVICES, PortTakenError, fixed_ports, free_base, free_ports

SLEEP = "import time; print('asleep', flush=True); time.sleep(60)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEP
PARENT = (
    "import subprocess, sys; worker = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
    "print(worker.pid, flush=True); worker.wait()"
)

Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Process] = []

    def start_python(code: str, cpus: frozenset[int] = frozenset()) -> Process:
        process = Process("test", [sys.executable, "-c", code], logs=tmp_path, directory=tmp_path, cpus=cpus)
        started.append(process)
        process.start()
        return process

    yield start_python
    for process in started:
        process.kill()


def wait_for_output(process: Process) -> str:
    deadline = time.monotonic() + 10
    while not process.tail():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process.tail()


def test_terminated_process_ends_by_itself(start: Start) -> None:
    process = start(SLEEP)
    wait_for_output(process)
    assert process.terminate() == -signal.SIGTERM
    assert not process.running
    assert process.pid is None


def test_process_that_does_not_end_in_time_is_killed(start: Start) -> None:
    process = start(DEAF)
    wait_for_output(process)
    assert process.terminate(grace=0.1) == -signal.SIGKILL


def test_suspended_process_can_be_terminated(start: Start) -> None:
    process = start(SLEEP)
    wait_for_output(process)
    process.suspend()
    assert process.running
    assert process.terminate() == -signal.SIGTERM


def test_workers_are_killed_with_their_process(start: Start) -> None:
    process = start(PARENT)
    worker = psutil.Process(int(wait_for_output(process)))
    process.kill()
    deadline = time.monotonic() + 10
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_process_starts_again_and_its_logs_go_on(start: Start) -> None:
    process = start("print('one line')")
    assert process.wait(10) == 0
    process.start()
    assert process.wait(10) == 0
    assert process.tail() == "one line\none line"


def test_running_process_is_not_started_twice(start: Start) -> None:
    process = start(SLEEP)
    with pytest.raises(RuntimeError, match="runs already"):
        process.start()


def test_process_is_pinned_and_this_one_is_not(start: Start) -> None:
    before = os.sched_getaffinity(0)
    cpu = min(before)
    process = start("import os; print(os.sched_getaffinity(0))", cpus=frozenset({cpu}))
    process.wait(10)
    assert process.tail() == str({cpu})
    assert os.sched_getaffinity(0) == before


def test_logs_of_an_earlier_run_are_set_aside(tmp_path: Path) -> None:
    (tmp_path / "crypto.err").write_text("old")
    set_aside(tmp_path)
    set_aside(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["crypto.err.previous"]


def test_free_ports_differ_and_are_not_those_of_outgoing_connections() -> None:
    topology = free_ports()
    addresses = [
        address
        for listeners in topology.services.values()
        for address in (listeners.public, listeners.certificate, listeners.internal)
    ]
    ports = {int(address.rpartition(":")[2]) for address in addresses} | {topology.redis_port}
    assert len(ports) == 3 * len(SERVICES) + 1
    assert max(ports) < 32_768


def test_taken_port_is_named() -> None:
    base = free_base()
    with socket.socket() as other:
        other.bind(("127.0.0.1", base + 12))
        other.listen()
        with pytest.raises(PortTakenError, match=str(base + 12)):
            fixed_ports(base)


def test_what_a_killed_mesh_left_is_gone_with_its_workers_and_ports(start: Start, tmp_path: Path) -> None:
    listening = (
        "import socket, subprocess, sys, time; s = socket.create_server(('127.0.0.1', 0)); s.set_inheritable(True);"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], close_fds=False);"
        "print(s.getsockname()[1], flush=True); time.sleep(60)"
    )
    process = start(listening)
    port = int(wait_for_output(process))
    directory = MeshDirectory(tmp_path / "mesh")
    directory.lock()
    assert process.pid is not None
    directory.record_processes({"test": process.pid})
    # Its parent does not wait for it: a zombie is left, while its worker still holds the port.
    assert directory.end_left_over_processes() == ["test"]
    socket.create_server(("127.0.0.1", port)).close()
    directory.unlock()
