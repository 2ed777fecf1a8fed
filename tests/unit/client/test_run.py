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

import psutil
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
given = [one for one in sys.argv[1].split(",") if one]
env = [one.removeprefix("env:") for one in given if one.startswith("env:")]
files = [one for one in given if not one.startswith("env:")]
sys.exit(run(Of(client=client), sys.argv[2:], env, files).exit_code)
"""
# The mesh does not answer.
HANGS = PROGRAM.replace('Of(value=b"hunter2")', 'print("asked", flush=True) or time.sleep(60)').replace(
    "import sys", "import sys, time", 1
)
# As some supervisors leave it to what they start.
CHILDREN_IGNORED = f"import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n{PROGRAM}"
COUNTS = """
import os, signal, sys, time
got = []
usual = {signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGQUIT, signal.SIGABRT, signal.SIGSEGV}
for number in {*usual, signal.SIGRTMIN, signal.SIGRTMIN + 1, signal.SIGRTMAX}:
    signal.signal(number, lambda received, _: got.append(received))
print(os.environ.get("KEY", ""), os.environ.get("STRONGROOM_TOKEN", "none"), os.getpid(), flush=True)
end = time.monotonic() + 60
while not got and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.5)
print(len(got), flush=True)
sys.exit(int(got[0]))
"""
FILE, ENV = "KEY=secret:k", "env:KEY=secret:k"
# What ends a process that does not expect it, a terminal's, a supervisor's, and faults that somebody sends.
SIGNALS = [
    *(signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGQUIT, signal.SIGABRT, signal.SIGSEGV),
    *(signal.SIGRTMIN, signal.SIGRTMIN + 1, signal.SIGRTMAX),
]


@contextmanager
def started(*command: str, given: str = FILE, program: str = PROGRAM) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", program, given, *command],
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


def has_ended(process_id: int) -> bool:
    """Whether a process is gone, or waits for nobody but who takes its exit status."""
    try:
        return psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(
    ("given", "to_group", "number"),
    [
        *((FILE, False, number) for number in SIGNALS),
        *((FILE, True, number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGRTMIN + 1)),
        *((ENV, True, number) for number in (signal.SIGINT, signal.SIGTERM)),
        *((ENV, False, number) for number in (signal.SIGSEGV, signal.SIGRTMIN + 1)),
    ],
)
def test_a_signal_reaches_the_command_once_and_leaves_no_file(given: str, to_group: bool, number: int) -> None:
    with started(sys.executable, "-c", COUNTS, given=given) as process:
        value, token, _ = line(process).split()
        assert token == "none"
        if to_group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        assert line(process) == "1"
        assert process.wait(30) == number
    assert given == ENV or not Path(value).parent.exists()


def test_a_signal_to_every_process_of_a_unit_reaches_the_command_once() -> None:
    with started(sys.executable, "-c", COUNTS) as process:
        line(process)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        assert len(family) > 2
        # As systemd ends a unit: the first of them may be about to pass it on when the last one gets it.
        for each in family:
            each.send_signal(signal.SIGTERM)
        assert line(process) == "1"
        assert process.wait(30) == signal.SIGTERM


@pytest.mark.parametrize("given", [FILE, ENV, f"{FILE},{ENV}"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_while_the_mesh_does_not_answer(given: str, number: signal.Signals) -> None:
    with started("true", given=given, program=HANGS) as process:
        assert line(process) == "asked"
        process.send_signal(number)
        # Python ends by KeyboardInterrupt as if by the signal.
        assert process.wait(20) == -number


def test_the_commands_end_is_seen_where_those_of_children_were_ignored() -> None:
    with started("sh", "-c", "exit 7", program=CHILDREN_IGNORED) as process:
        assert process.wait(30) == 7


def test_a_value_is_in_the_file_that_the_variable_names() -> None:
    with started("sh", "-c", 'cat "$KEY"; echo') as process:
        assert line(process) == "hunter2"
        assert process.wait(30) == 0


@pytest.mark.parametrize("given", [FILE, ENV])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_how_the_command_ends_is_handed_on(given: str, number: signal.Signals) -> None:
    with started("sh", "-c", f"kill -{int(number)} $$", given=given) as process:
        # As a shell tells it, where the command ran beside this process; itself, where it ran in its place.
        assert process.wait(30) == (128 + number if given == FILE else -number)


@pytest.mark.parametrize("given", [FILE, ENV])
def test_the_command_ignores_no_signal_that_python_does(given: str) -> None:
    with started("grep", "^Sig[IB]", "/proc/self/status", given=given) as process:
        masks = [int(line(process).split()[1], 16) for _ in range(2)]
    # Without what the C library keeps for itself.
    assert [mask & ~(0b11 << 31) for mask in masks] == [0, 0]


@pytest.mark.parametrize("given", [FILE, ENV])
def test_what_is_killed_leaves_neither_file_nor_command(given: str) -> None:
    with started(sys.executable, "-c", COUNTS, given=given) as process:
        value, _, command = line(process).split()
        process.kill()
        process.wait(30)
        eventually(lambda: has_ended(int(command)))
    eventually(lambda: given == ENV or not Path(value).parent.exists())


def test_nor_one_that_does_not_want_to_end() -> None:
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(60)"
    stubborn = f"import os, signal, time; {deaf}"
    with started(sys.executable, "-c", stubborn) as process:
        command = line(process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        eventually(lambda: has_ended(int(command)))


def test_what_cannot_be_run_leaves_no_file() -> None:
    before = set(Path("/dev/shm").glob("strongroom-*"))  # noqa: S108
    with started("/no/such/command") as process:
        assert process.wait(30) == 127
    # Those of tests in other processes come and go.
    until(lambda: not set(Path("/dev/shm").glob("strongroom-*")) - before)  # noqa: S108


def test_files_are_removed_though_the_command_was_gone_before_it_was_looked_for(tmp_path: Path) -> None:
    directory = tmp_path / "files"
    directory.mkdir()
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    helpers = module._Helpers(directory)
    helpers.watch(ended.pid)
    # As the kernel does with a parent that is killed.
    os.close(helpers._says)
    os.close(helpers._asks)
    until(lambda: not directory.exists(), 30.0)
    helpers._process.wait()


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
