"""`strongroom secret`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli.command import Report, Session, command, facts_report
from strongroom.cli.inputs import Force, OutputFile, pairs_of, read_bytes, write_bytes
from strongroom.cli.plain import plain

MAX_VALUE_BYTES = 65_536

app = typer.Typer(name="secret", help="Secrets and their values.", no_args_is_help=True)

SecretName = Annotated[str, typer.Argument(metavar="SECRET", help="An id or a full name.")]
Text = Annotated[
    str | None, typer.Option(metavar="TEXT", help="The value; others can see it in the process list and history.")
]
ValueFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Read the value from a file, as it is.")]


@command(app, "create")
def create(
    session: Session,
    secret: Annotated[str, typer.Argument(metavar="ID", help="Its id.")],
    key: Annotated[
        str, typer.Option(metavar="KEY", help="Its values are encrypted under it; default: alias/strongroom-secrets.")
    ] = "",
    text: Text = None,
    value_file: ValueFile = None,
    no_value: Annotated[bool, typer.Option("--no-value", help="Create it without a value.")] = False,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    tag: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="May be repeated.")] = None,
) -> Report:
    """Make a secret. Its value is read from standard input, and asked for without echo on a terminal."""
    value = b"" if no_value else _value(text, value_file)
    created = session.client.create_secret(secret, value, key=key, description=description, tags=pairs_of(tag, "--tag"))
    return facts_report(plain(created))


@command(app, "get")
def get(
    session: Session,
    secret: SecretName,
    stage: Annotated[str, typer.Option(help="Current by default.")] = "",
    version: Annotated[int | None, typer.Option(min=1, help="A version by its number.")] = None,
    field: Annotated[str, typer.Option(help="One member of a JSON value.")] = "",
    output_file: OutputFile = None,
    force: Force = False,
) -> Report:
    """Print a secret's value as it is."""
    value = session.client.get_secret_value(secret, stage=stage, version=version or 0, field=field)
    document = {**plain(value), "text": _as_text(value.value)}
    if output_file is not None:
        write_bytes(output_file, value.value, force=force)
        document.update(value=None, text=None, value_file=str(output_file))
        return Report(document, note=f"wrote {len(value.value)} bytes to {output_file}")
    # A terminal's prompt begins a line of its own; a pipe gets the value and nothing else.
    ending = b"\n" if sys.stdout.isatty() else b""
    return Report(document, raw=value.value + ending)


@command(app, "put")
def put(
    session: Session,
    secret: SecretName,
    text: Text = None,
    value_file: ValueFile = None,
    stage: Annotated[list[str] | None, typer.Option(help="Current by default; may be repeated.")] = None,
) -> Report:
    """Store a new value. It is read from standard input, and asked for without echo on a terminal."""
    version = session.client.put_secret_value(secret, _value(text, value_file), stages=stage or ())
    return facts_report(plain(version))


def _value(text: str | None, path: Path | None) -> bytes:
    if text is None and path is None and sys.stdin.isatty():
        typed: str = typer.prompt("value", hide_input=True, confirmation_prompt=True, err=True)
        return typed.encode()
    return read_bytes(text, path, MAX_VALUE_BYTES, "value")


def _as_text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
