"""Standard input, which one value of a command can come from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import typer

from strongroom.cli.terminal import write_beside
from strongroom.errors import StrongroomError

# What has read it so far; None where no command line runs.
_readers: ContextVar[list[str] | None] = ContextVar("strongroom_cli_readers", default=None)


@contextmanager
def read_once() -> Iterator[None]:
    """Within the block, which is one command, a second value from standard input is a usage error: nothing is left."""
    token = _readers.set([])
    try:
        yield
    finally:
        _readers.reset(token)


def taken_by(field: str) -> None:
    """Says that a value is read from standard input. A usage error where another one was."""
    readers = _readers.get()
    if readers is None:
        return
    if readers:
        first, second = (one.replace("_", " ") for one in (readers[0], field))
        raise typer.BadParameter(
            f"both the {first} and the {second} are to come from standard input: give a file for one of them",
            param_hint="-",
        )
    readers.append(field)


def read_standard_input(limit: int, field: str) -> bytes:
    """Up to so many bytes of it; on a terminal it says what is to be typed. Raises FIELD_REQUIRED without one."""
    # Without one it is None.
    if sys.stdin is None:
        raise StrongroomError("FIELD_REQUIRED", f"there is no standard input to read the {field} from", field=field)
    taken_by(field)
    if sys.stdin.isatty():
        write_beside(f"type the {field}, and end it with Ctrl-D")
    return sys.stdin.buffer.read(limit)
