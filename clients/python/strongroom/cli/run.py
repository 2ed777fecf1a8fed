"""`strongroom run`: a command with secrets in its environment, or in files that are in memory alone."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from strongroom.cli.command import Report, Session, command
from strongroom.cli.complaints import Status, failed
from strongroom.errors import StrongroomError

if TYPE_CHECKING:
    from strongroom.client import Client

T = TypeVar("T")

_SCHEME = "secret:"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# It would let the command do everything that its caller may.
_NOT_HANDED_ON = ("STRONGROOM_TOKEN",)
# Every signal that can be waited for, but those that stop and continue a process, and a child's.
_FORWARDED = signal.valid_signals() - {
    *(signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
    signal.SIGCHLD,
}
# Python ignores them, and whatever is begun by it would.
_USUAL = (signal.SIGPIPE, signal.SIGXFSZ)
# Two processes beside the command's parent, in which all signals wait. The first is in the parent's process group, and
# says which signals it has got too: those are for the group, or for all processes of a unit, and have reached the
# command without its parent. The second is in a session of its own, and outlives the parent: it removes the files, and
# ends the command, when that is gone without having said so.
_HELPERS = """
import os, select, shutil, signal, sys
directory, asks, answers, says = sys.argv[1], *map(int, sys.argv[2:])
if os.fork():
    os.close(says)
    while asked := os.read(asks, 1):
        told = signal.sigtimedwait({asked[0]}, 0.1)
        os.write(answers, b"y" if told else b"n")
    os._exit(0)
os.setsid()
os.close(asks)
os.close(answers)
told, named, command = b"", False, None
while said := os.read(says, 64):
    told += said
    if not named and b" " in told:
        named = True
        try:
            command = os.pidfd_open(int(told.split()[0]))
        except OSError:
            pass
shutil.rmtree(directory, ignore_errors=True)
if command is not None and not told.endswith(b"done"):
    try:
        signal.pidfd_send_signal(command, signal.SIGTERM)
        if not select.select([command], [], [], 10)[0]:
            signal.pidfd_send_signal(command, signal.SIGKILL)
    except OSError:
        pass
"""
_ASKED_SECONDS = 2.0
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
    own = {name: value for name, value in os.environ.items() if name not in _NOT_HANDED_ON}

    def fetched(client: Client) -> tuple[dict[str, str], dict[str, bytes]]:
        texts = {each.variable: _text(client, each) for each in in_environment}
        values = {each.variable: _value(client, each) for each in in_files}
        # The command is on its own: it has no part in this connection.
        client.close()
        return texts, values

    if not in_files:
        return Report({}, exit_code=_become(arguments, {**own, **fetched(session.client)[0]}), silent=True)
    # Where a supervisor ignored it, the system would say nothing of a child's end.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # From here on signals wait for the command, in the connection's threads too, so that none ends this process and
    # leaves files behind.
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED | {signal.SIGCHLD})
    # Made in this thread, as the command's trace ends in it; calls are made in the other.
    client = session.client
    texts, values = _while_signals_end_it(lambda: fetched(client))
    with _files(values) as (paths, helpers):
        return Report({}, exit_code=_run(arguments, {**own, **texts, **paths}, helpers), silent=True)


def _while_signals_end_it(work: Callable[[], T]) -> T:
    """What `work` answers, in a thread of its own. A signal that comes meanwhile does what it does to any process,
    though it is blocked in every thread."""
    here, future = threading.get_ident(), Future[T]()

    def do() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  # it is raised where it is waited for
            future.set_exception(error)
        signal.pthread_kill(here, signal.SIGCHLD)

    threading.Thread(target=copy_context().run, args=(do,), name="values", daemon=True).start()
    while not future.done():
        number = signal.sigwaitinfo(_FORWARDED | {signal.SIGCHLD}).si_signo
        if number != signal.SIGCHLD:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
            os.kill(os.getpid(), number)
            signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    return future.result()


@contextmanager
def _files(values: Mapping[str, bytes]) -> Iterator[tuple[Mapping[str, str], _Helpers]]:
    """Files in memory with the values, by variable, until the block ends, whatever ends it."""
    directory = _private_directory()
    try:
        helpers = _Helpers(directory)
        paths = {}
        for variable, value in values.items():
            path = directory / variable
            with FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
                file.write(value)
            paths[variable] = str(path)
        yield paths, helpers
        helpers.done()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class _Helpers:
    """The processes beside this one: one that knows who else has got a signal, one that removes a directory when this
    process is gone, however that ended."""

    def __init__(self, directory: Path) -> None:
        asks, self._asks = os.pipe()
        self._answers, answers = os.pipe()
        says, self._says = os.pipe()
        theirs = (asks, answers, says)
        command = [sys.executable, "-I", "-S", "-c", _HELPERS, str(directory), *map(str, theirs)]
        self._process = subprocess.Popen(  # this interpreter, with a constant program
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=theirs,
            env={},
        )
        for end in theirs:
            os.close(end)

    def watch(self, process_id: int) -> None:
        """Says which process the files are for."""
        self._say(f"{process_id} ")

    def done(self) -> None:
        """Says that the process has ended."""
        self._say("done")

    def has_got(self, number: int) -> bool:
        """Whether a signal that reached this process was sent to its whole group, or unit, and so to the command."""
        with suppress(OSError):
            os.write(self._asks, bytes([number]))
            if select.select([self._answers], [], [], _ASKED_SECONDS)[0]:
                return os.read(self._answers, 1) == b"y"
        return False

    def _say(self, word: str) -> None:
        with suppress(OSError):
            os.write(self._says, word.encode())


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


def _become(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Becomes the command: nothing stands between it and whoever sends it signals, or waits for its end. Returns the
    exit status where it cannot be run."""
    for number in _USUAL:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(arguments[0], list(arguments), environment)  # noqa: S606  # the user's own command
    except (OSError, ValueError) as error:
        return _not_run(arguments, error)


def _run(arguments: Sequence[str], environment: Mapping[str, str], helpers: _Helpers) -> int:
    """Runs the command beside this process: what is sent to this process alone is passed on."""
    try:
        process_id = os.posix_spawnp(arguments[0], list(arguments), environment, setsigmask=[], setsigdef=_USUAL)
    except (OSError, ValueError) as error:
        return _not_run(arguments, error)
    helpers.watch(process_id)
    # What came before the command was there.
    for number in signal.sigpending() & _FORWARDED:
        signal.sigtimedwait({number}, 0)
        helpers.has_got(number)
        _send(process_id, number)
    while True:
        ended, status = os.waitpid(process_id, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code
        number = signal.sigwaitinfo(_FORWARDED | {signal.SIGCHLD}).si_signo
        if number != signal.SIGCHLD and not helpers.has_got(number):
            _send(process_id, number)


def _send(process_id: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process_id, number)


def _not_run(arguments: Sequence[str], error: OSError | ValueError) -> int:
    failed("IO_ERROR", f"{arguments[0]}: {getattr(error, 'strerror', None) or 'cannot be run'}", Status.LOCAL)
    return 127
