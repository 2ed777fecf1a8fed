"""What commands are told of a secret: its value, its target, and what its passwords look like."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.bounded import read_text
from strongroom.cli.inputs import read_bytes

if TYPE_CHECKING:
    from strongroom.secrets.v1.password_rule_pb2 import PasswordRule
    from strongroom.secrets.v1.target_pb2 import RotationTarget

MAX_VALUE_BYTES = 65_536

Text = Annotated[
    str | None, typer.Option(metavar="TEXT", help="The value; others can see it in the process list and history.")
]
PasswordRuleText = Annotated[
    str,
    typer.Option(
        metavar="RULE",
        help="What rotation's passwords look like, a PasswordRule in JSON:"
        ' \'{"length": 24, "excludeCharacters": "-"}\'; {} for the default.',
    ),
]
ValueFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Read the value from a file, as it is.")]
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
TargetFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Where the value is valid: a RotationTarget in JSON.")
]
OfPrincipal = Annotated[
    str, typer.Option(help="Make and keep a client key of this user or workload; with neither value nor target.")
]
Lifetime = Annotated[
    str, typer.Option(metavar="SPAN", help="How long each client key is valid, with --principal: 1h to 366d.")
]
SkipTargetCheck = Annotated[
    bool, typer.Option("--skip-target-check", help="Do not ask the target whether the credentials log in.")
]


def target_of(path: Path) -> RotationTarget:
    """The target that a file describes in JSON."""
    from google.protobuf.json_format import Parse, ParseError

    from strongroom.secrets.v1.target_pb2 import RotationTarget

    try:
        return Parse(read_text(path), RotationTarget())
    except ParseError as error:
        raise typer.BadParameter(f"{path} is no RotationTarget in JSON: {error}", param_hint="--target") from None


def password_rule_of(text: str) -> PasswordRule:
    """The rule that an option describes in JSON."""
    from google.protobuf.json_format import Parse, ParseError

    from strongroom.secrets.v1.password_rule_pb2 import PasswordRule

    try:
        return Parse(text, PasswordRule())
    except ParseError as error:
        raise typer.BadParameter(f"no PasswordRule in JSON: {error}", param_hint="--password-rule") from None


def value_of(text: str | None, path: Path | None) -> bytes:
    """The value of a text, of a file, of standard input, or typed without echo on a terminal."""
    if text is None and path is None and sys.stdin.isatty():
        typed: str = typer.prompt("value", hide_input=True, confirmation_prompt=True, err=True)
        return typed.encode()
    return read_bytes(text, path, MAX_VALUE_BYTES, "value")
