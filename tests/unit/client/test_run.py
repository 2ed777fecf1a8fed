"""`strongroom run`: what a command is given, what it is not, and that nothing is left behind however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer

from strongroom.atomic import check_destination, replacing
from strongroom.cli import run as module
from strongroom.errors import StrongroomError
from tests.support.clients import until

# Runs the command with a client that answers one value, as the command line does.
PROGRAM = """
import sys
from types import SimpleNamespace as Of
from strongroom.cli.run import run
secrets = Of(get_value=lambda secret, field: Of(value=b"hunter2"))
client = Of(secrets=secrets, close=lambda: None)
files = [given for given in sys.argv[1].split(",") if given]
sys.exit(run(Of(client=client), sys.argv[2:], None, files).exit_code)
"""
COUNTS = """
import os, signal, sys, time
got = []
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, lambda received, _: got.append(received))
print(os.environ.get("KEY", ""), os.environ.get("STRONGROOM_TOKEN", "none"), flush=True)
end = time.monotonic() + 60
while not got and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.3)
print(len(got), flush=True)
sys.exit(int(got[0]))
"""


@contextmanager
def started(*command: str, files: str = "KEY=secret:k") -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, files, *command],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "STRONGROOM_TOKEN": "a.b.c"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_reaches_the_command_once_and_leaves_no_file(number: signal.Signals) -> None:
    with started(sys.executable, "-c", COUNTS) as process:
        path, token = line(process).split()
        assert token == "none"
        assert Path(path).read_text() == "hunter2"
        process.send_signal(number)
        assert line(process) == "1"
        assert process.wait(30) == number
    assert not Path(path).parent.exists()


def test_what_is_killed_leaves_neither_file_nor_command() -> None:
    with started(sys.executable, "-c", COUNTS) as process:
        path, _ = line(process).split()
        process.kill()
        process.wait(30)
        assert line(process) == "1"
    eventually(lambda: not Path(path).parent.exists())


def test_what_cannot_be_run_leaves_no_file() -> None:
    before = set(Path("/dev/shm").glob("strongroom-*"))  # noqa: S108
    with started("/no/such/command") as process:
        assert process.wait(30) == 127
    # Those of tests in other processes come and go.
    until(lambda: not set(Path("/dev/shm").glob("strongroom-*")) - before)  # noqa: S108


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", "", ".", "..", "A B", "A\0", "1A", "A="])  # noqa: S108
def test_a_file_is_named_by_a_variable_alone(name: str) -> None:
    with pytest.raises(typer.BadParameter):
        module._wanted([f"{name}=secret:s"], "--file")
    with pytest.raises(typer.BadParameter):
        module._wanted([f"{name}=secret:s"], "--env")


def test_output_goes_through_no_link_without_force(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    link = tmp_path / "out"
    link.symlink_to(victim)
    with pytest.raises(StrongroomError) as caught:
        check_destination(link, overwrite=False)
    assert caught.value.reason == "FILE_EXISTS"
    with pytest.raises(StrongroomError), replacing(link, overwrite=False) as file:
        file.write(b"x")
    assert not victim.exists()
    with replacing(link, overwrite=True) as file:
        file.write(b"x")
    assert victim.read_bytes() == b"x"
