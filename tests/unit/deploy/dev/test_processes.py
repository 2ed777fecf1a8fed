"""One process of the mesh, and the ports it is given."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy.dev.__main__ import _told, main
from deploy.dev.directory import MeshDirectory
from deploy.dev.errors import MeshError
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


@pytest.mark.parametrize("offset", [1, 13, 23, 32, 50, 60])
def test_every_port_that_make_run_needs_is_told_in_one_line_with_what_to_do(
    offset: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = free_base()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with socket.create_server(("127.0.0.1", base + offset)):
        try:
            assert main(["--directory", str(tmp_path), "--port", str(base)]) == 1
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    told = capsys.readouterr().err
    assert re.fullmatch(
        rf"error: in use by another program: port {base + offset} on 127\.0\.0\.1; end that program, or take other "
        r"ports, such as `make run PORT=\d+`\n",
        told,
    )


@pytest.mark.parametrize("base", [0, -1, 65_500, 70_000])
def test_ports_that_there_are_not_are_told(base: int) -> None:
    with pytest.raises(PortTakenError, match="the first is 1 to 65475"):
        fixed_ports(base)


def test_a_host_that_is_not_this_machine_is_told() -> None:
    with pytest.raises(PortTakenError, match=r"not of this machine: port .* on 192\.0\.2\.1$"):
        fixed_ports(free_base(), "192.0.2.1")


def test_a_port_that_is_taken_after_all_is_told_without_what_the_process_wrote() -> None:
    wrote = "Traceback (most recent call last):\nOSError: [Errno 98] Address already in use"
    for begin in ("the doors do not serve; their last lines:", "audit ended with exit code 1; its last lines (x):"):
        told = _told(MeshError(f"{begin}\n{wrote}"))
        assert ("\n" in told, "make run PORT=" in told) == (False, True)


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
