"""What commands are told of a secret and its value."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli.inputs import STANDARD, read_bytes, without_line_end
from strongroom.errors import StrongroomError

MAX_VALUE_BYTES = 65_536

Text = Annotated[
    str | None, typer.Option(metavar="TEXT", help="The value; others can see it in the process list and history.")
]
ValueFile = Annotated[
    Path | None, typer.Option("--value-file", "--in", metavar="FILE", help="Read the value from a file.")
]
KeepNewline = Annotated[
    bool, typer.Option("--keep-newline", help="Keep the newline at the end of a value of one line.")
]
Destinations = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-destination",
        metavar="PLACE",
        help="HOST[:PORT] or CIDR[:PORT] that its values may be sent to, all of them; may be repeated.",
    ),
]
KeyOfValues = Annotated[
    str, typer.Option(metavar="KEY", help="Its values are encrypted under it; default: alias/strongroom-secrets.")
]
OfPrincipal = Annotated[
    str,
    typer.Option(
        metavar="PRINCIPAL", help="Make and keep a client key of this user or workload; with neither value nor target."
    ),
]
Lifetime = Annotated[
    str, typer.Option(metavar="SPAN", help="How long each client key is valid, with --principal: 1h to 366d.")
]
SkipTargetCheck = Annotated[
    bool, typer.Option("--skip-target-check", help="Do not ask the target whether the credentials log in.")
]


def value_of(text: str | None, path: Path | None, *, keep_newline: bool = False) -> bytes:
    """The value of a text, of a file, of standard input, or typed without echo on a terminal; without the newline at
    its end. Raises FIELD_REQUIRED where there is none.
    """
    if text is None and path is None and sys.stdin is not None and sys.stdin.isatty():
        typed: str = typer.prompt("value", hide_input=True, confirmation_prompt=True, err=True)
        return typed.encode()
    given = read_bytes(text, path, MAX_VALUE_BYTES, "value")
    value = given if text is not None else without_line_end(given, keep=keep_newline)
    if not value:
        raise StrongroomError("FIELD_REQUIRED", f"the value is empty: {_source(text, path)}", field="value")
    return value


def _source(text: str | None, path: Path | None) -> str:
    if text is not None:
        return "--text has nothing in it"
    return f"there is nothing in {'standard input' if path in (None, STANDARD) else path}"
