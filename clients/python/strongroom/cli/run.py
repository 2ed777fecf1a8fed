"""`strongroom run`: a command with secrets in its environment, or in files that are in memory alone."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli.command import Report, Session, command
from strongroom.cli.complaints import Status, failed
from strongroom.errors import StrongroomError

if TYPE_CHECKING:
    from strongroom.client import Client

_SCHEME = "secret:"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# It would let the command do everything that its caller may.
_NOT_HANDED_ON = ("STRONGROOM_TOKEN",)
# Every signal that ends a process or tells it something, but those that are the terminal's, a fault's or a child's.
_NAMES = "HUP INT QUIT TERM USR1 USR2 ALRM VTALRM PROF IO PWR XCPU XFSZ WINCH"
_FORWARDED = frozenset(
    number for number in signal.valid_signals() if getattr(number, "name", "").removeprefix("SIG") in _NAMES.split()
)
# `si_code` of a signal that the kernel sends, such as the terminal's to each process of its group.
_FROM_KERNEL = 0x80
# Outlives the command's parent: removes the files, and ends the command, when that is gone without having said so.
_GUARD = """
import os, shutil, signal, sys
told = sys.stdin.buffer.read().split()
shutil.rmtree(sys.argv[1], ignore_errors=True)
if told and told[-1] != b"done":
    try:
        os.kill(int(told[0]), signal.SIGTERM)
    except (OSError, ValueError):
        pass
"""
_MEMORY = Path("/dev/shm")  # noqa: S108  # a file system in memory, not a place for shared files


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A secret, or a field of one, and the variable that it is for."""

    variable: str
    secret: str
    field: str


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    command(
        app,
        "run",
        "strongroom run --env DB_PASSWORD=secret:payments/db#password -- ./server",
        "strongroom run --file TLS_KEY=secret:web/key -- nginx",
    )(run)


def run(
    session: Session,
    arguments: Annotated[list[str], typer.Argument(metavar="-- COMMAND", help="What to run.")],
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=secret:SECRET[#FIELD]", help="A variable that holds the value; may be repeated."),
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=secret:SECRET[#FIELD]",
            help="A variable that names a file with the value, which is in memory and gone when the command ends.",
        ),
    ] = None,
) -> Report:
    """Run a command with secrets in its environment, or in files. Exits as the command does.

    SECRET is an id or a full name, such as payments/db; FIELD one member of a JSON value: password.
    """
    in_environment, in_files = _wanted(env, "--env"), _wanted(file, "--file")
    # From here on signals wait for the command, so that none ends this process and leaves files behind.
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED | {signal.SIGCHLD})
    own = {name: value for name, value in os.environ.items() if name not in _NOT_HANDED_ON}
    environment = {**own, **{w.variable: _text(session.client, w) for w in in_environment}}
    with _files(session, in_files) as (paths, guard):
        # The command is on its own: it has no part in this connection.
        session.client.close()
        return Report({}, exit_code=_run(arguments, {**environment, **paths}, guard), silent=True)


@contextmanager
def _files(session: Session, wanted: Sequence[_Wanted]) -> Iterator[tuple[Mapping[str, str], _Guard | None]]:
    """Files in memory with the values, by variable, until the block ends, whatever ends it."""
    if not wanted:
        yield {}, None
        return
    values = [(each.variable, _value(session.client, each)) for each in wanted]
    directory = _private_directory()
    try:
        guard = _Guard(directory)
        paths = {}
        for variable, value in values:
            path = directory / variable
            with FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
                file.write(value)
            paths[variable] = str(path)
        yield paths, guard
        guard.done()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class _Guard:
    """A process of a session of its own that removes a directory when this process is gone, however that ended."""

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, "-I", "-S", "-c", _GUARD, str(directory)]
        self._process = subprocess.Popen(  # this interpreter, with a constant program
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={},
        )

    def watch(self, process_id: int) -> None:
        """Says which process the files are for."""
        self._say(f"{process_id} ")

    def done(self) -> None:
        """Says that the process has ended."""
        self._say("done")

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None  # noqa: S101  # it was asked for
        with suppress(OSError):
            self._process.stdin.write(word.encode())
            self._process.stdin.flush()


def _wanted(options: list[str] | None, option: str) -> list[_Wanted]:
    wanted = []
    for given in options or []:
        variable, equals, source = given.partition("=")
        if not equals or not variable or not source.startswith(_SCHEME):
            raise typer.BadParameter(f"'{given}' is not NAME={_SCHEME}SECRET[#FIELD]", param_hint=option)
        if not _NAME.fullmatch(variable):
            raise typer.BadParameter(
                f"'{variable}' is not the name of a variable: letters, digits and _", param_hint=option
            )
        secret, _, field = source.removeprefix(_SCHEME).partition("#")
        wanted.append(_Wanted(variable, secret, field))
    return wanted


def _value(client: Client, wanted: _Wanted) -> bytes:
    return client.secrets.get_value(wanted.secret, field=wanted.field).value


def _text(client: Client, wanted: _Wanted) -> str:
    value = _value(client, wanted)
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise StrongroomError("FIELD_INVALID", f"the value of {wanted.secret} is no text: use --file", field="env")
    return text


def _private_directory() -> Path:
    if not _MEMORY.is_dir():
        raise StrongroomError("UNSUPPORTED", f"this machine has no {_MEMORY} for files in memory", field="file")
    return Path(tempfile.mkdtemp(prefix="strongroom-", dir=_MEMORY))


def _run(arguments: Sequence[str], environment: Mapping[str, str], guard: _Guard | None) -> int:
    """Runs the command in this process's place: what is sent to this process reaches it, once."""
    try:
        process_id = os.posix_spawnp(
            arguments[0], list(arguments), environment, setsigmask=[], setsigdef=[signal.SIGPIPE]
        )
    except (OSError, ValueError) as error:
        failed("IO_ERROR", f"{arguments[0]}: {getattr(error, 'strerror', None) or 'cannot be run'}", Status.LOCAL)
        return 127
    if guard is not None:
        guard.watch(process_id)
    while True:
        ended, status = os.waitpid(process_id, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code
        received = signal.sigwaitinfo(_FORWARDED | {signal.SIGCHLD})
        # The terminal has sent its own to the command as well.
        if received.si_signo != signal.SIGCHLD and received.si_code != _FROM_KERNEL:
            with suppress(ProcessLookupError):
                os.kill(process_id, received.si_signo)
