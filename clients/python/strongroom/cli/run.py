"""`strongroom run`: a command with secrets in its environment, or in files that are in memory alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli.command import Report, Session, command
from strongroom.errors import StrongroomError

if TYPE_CHECKING:
    from strongroom.client import Client

_SCHEME = "secret:"
_MEMORY = Path("/dev/shm")  # noqa: S108  # a file system in memory, not a place for shared files


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A secret, or a field of one, and the variable that it is for."""

    variable: str
    secret: str
    field: str


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "run")(run)


def run(
    session: Session,
    arguments: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="What to run.")],
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
    environment = {**os.environ, **{w.variable: _text(session.client, w) for w in in_environment}}
    directory = _private_directory() if in_files else None
    try:
        if directory is not None:
            for wanted in in_files:
                path = directory / wanted.variable
                path.touch(mode=0o600)
                path.write_bytes(_value(session.client, wanted))
                environment[wanted.variable] = str(path)
        # The command is on its own: it has no part in this connection.
        session.client.close()
        return Report({}, exit_code=_run(arguments, environment), raw=b"")
    finally:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)


def _wanted(options: list[str] | None, option: str) -> list[_Wanted]:
    wanted = []
    for given in options or []:
        variable, equals, source = given.partition("=")
        if not equals or not variable or not source.startswith(_SCHEME):
            raise typer.BadParameter(f"{given!r} is not NAME={_SCHEME}SECRET[#FIELD]", param_hint=option)
        secret, _, field = source.removeprefix(_SCHEME).partition("#")
        wanted.append(_Wanted(variable, secret, field))
    return wanted


def _value(client: Client, wanted: _Wanted) -> bytes:
    return client.get_secret_value(wanted.secret, field=wanted.field).value


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


def _run(arguments: Sequence[str], environment: dict[str, str]) -> int:
    try:
        process = subprocess.Popen(arguments, env=environment)
    except OSError as error:
        sys.stderr.write(f"error: {arguments[0]}: {error.strerror}\n")
        return 127
    # Signals are for the command; this process waits, and then cleans up.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: process.send_signal(received))
    code = process.wait()
    return 128 - code if code < 0 else code
