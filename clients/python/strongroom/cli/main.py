"""The one way into the command line, and the one way out of it: no traceback ever reaches a user."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from strongroom.cli.complaints import Status, failed, refused
from strongroom.cli.forms import asked_for, form_in
from strongroom.cli.standard_input import read_once
from strongroom.errors import StrongroomError

ABOUT_VARIABLES: Mapping[str, str] = {
    "STRONGROOM_CONFIG": "the file of profiles; default: strongroom/profiles.toml in the configuration directory",
    "STRONGROOM_PROFILE": "the profile to use, in place of the current one",
    "STRONGROOM_TOKEN": "a session token to use in place of the profile's credentials",
    "STRONGROOM_DEBUG": "1 shows where a fault of the command line itself is",
}
"""The variables that the command line reads."""

_PREFIX = "STRONGROOM_"
_QUOTED = re.compile(r"^'([^']+)'(?=:)")
_DEBUG = "STRONGROOM_DEBUG"


def guarded(work: Callable[[], object], arguments: Sequence[str]) -> int:
    """Does the work and answers what the process exits with; what goes wrong becomes one line or one JSON object."""
    with asked_for(form_in(arguments)), read_once():
        try:
            _require_streams()
            require_known(os.environ)
            status = work()
        except typer.Exit as ending:
            status = ending.exit_code
        except SystemExit as ending:
            return ending.code if isinstance(ending.code, int) else Status.DONE
        except BaseException as error:  # noqa: BLE001  # nothing may reach a user as Python shows it
            return int(_told(error))
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError as error:
            return int(_told(error))
    return int(status) if isinstance(status, int) else Status.DONE


def _require_streams() -> None:
    """Standard streams that can be asked; one that is closed is None. Raises OSError without a place for the answer."""
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open()  # noqa: SIM115  # it stays open as long as the process does
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    if sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed")


def require_known(environment: Mapping[str, str]) -> None:
    """A usage error for a variable that is misspelt: what it says would be passed over silently."""
    for name in environment:
        if name.startswith(_PREFIX) and name not in ABOUT_VARIABLES and "__" not in name:
            from difflib import get_close_matches

            known = [variable.removeprefix(_PREFIX) for variable in ABOUT_VARIABLES]
            near = get_close_matches(name.removeprefix(_PREFIX), known, 1, 0.7)
            if near:
                raise typer.BadParameter(f"there is no such variable: {_PREFIX}{near[0]} is meant", param_hint=name)


def told(error: BaseException, arguments: Sequence[str]) -> int:
    """Tells what went wrong, in the form that the words ask for, and answers what the process exits with."""
    with asked_for(form_in(arguments)):
        return int(_told(error))


def _told(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Status.INTERRUPTED
    if isinstance(error, StrongroomError):
        return refused(error)
    if isinstance(error, BrokenPipeError):
        _forget_output()
        return Status.PIPE_CLOSED
    if isinstance(error, OSError):
        _forget_output()
        # Where a file was opened by its descriptor, that is what stands here.
        named = isinstance(error.filename, str | bytes) and error.filename
        where = f"{os.fsdecode(named)}: " if named else ""
        return failed("IO_ERROR", f"{where}{error.strerror or error}", Status.LOCAL)
    if isinstance(error, typer.TyperException):
        return _misused(error)
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        return failed("IO_ERROR", "there is no home directory: set HOME", Status.LOCAL)
    if os.environ.get(_DEBUG):
        raise error
    return failed(
        "INTERNAL",
        f"the command line failed: {type(error).__name__}: {str(error).partition(chr(10))[0]}",
        Status.FAULT,
        f"{_DEBUG}=1 shows where; please report it",
    )


def _misused(error: Any) -> int:
    """Tells a usage error, with the command whose help says more."""
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        # Its message is the help, as it was asked for by saying nothing.
        typer.echo(message, err=True)
        return Status.USAGE
    message = message.replace("Invalid value for ", "").replace("Invalid value: ", "").rstrip(".")
    message = _QUOTED.sub(r"\1", message)
    message = message[:1].lower() + message[1:] if message[1:2].islower() else message
    hint = f"`{context.command_path if context is not None else 'strongroom'} --help` says more"
    if "did you mean" in message or "--help`" in message:
        hint = ""
    return failed("USAGE", message.replace("\n", " "), Status.USAGE, hint)


def _forget_output() -> None:
    """What is still to be written has no reader: nothing may fail because of it when the process ends."""
    with suppress(OSError, AttributeError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
