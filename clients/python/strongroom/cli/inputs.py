"""What people type: bytes from a file, a pipe or the line itself, encryption contexts, times, places to write
to.
"""

from __future__ import annotations

import binascii
import re
import sys
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from strongroom.errors import StrongroomError

Context = Annotated[
    list[str] | None,
    typer.Option("--context", metavar="NAME=VALUE", help="One pair of the encryption context; may be repeated."),
]
InputFile = Annotated[Path | None, typer.Option("--in", metavar="FILE", help="Read it from a file.")]
OutputFile = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Write the bytes to a new file (mode 0600).")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite a file that exists.")]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_AGE = re.compile(r"(\d+)([smhd])")
_CIPHERTEXT_VERSION = 0x01


def pairs_of(pairs: list[str] | None, option: str = "--context") -> dict[str, str]:
    """NAME=VALUE pairs as a mapping. A usage error where a pair has no `=` or a name comes twice."""
    mapping: dict[str, str] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint=option)
        if name in mapping:
            raise typer.BadParameter(f"{name!r} comes twice", param_hint=option)
        mapping[name] = value
    return mapping


def read_bytes(text: str | None, path: Path | None, limit: int, field: str, hint: str = "") -> bytes:
    """The bytes of `--text`, of `--in`, or of standard input; a usage error where both are given.

    Raises FIELD_TOO_LARGE beyond `limit` bytes, with `hint` on what to do instead.
    """
    if text is not None and path is not None:
        raise typer.BadParameter("give either a text or a file")
    if text is not None:
        content = text.encode()
    elif path is not None:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    else:
        if sys.stdin.isatty():
            sys.stderr.write(f"type the {field}, and end it with Ctrl-D\n")
        content = sys.stdin.buffer.read(limit + 1)
    if len(content) > limit:
        raise StrongroomError("FIELD_TOO_LARGE", f"{field} is larger than {limit} bytes{hint}", field=field)
    return content


def ciphertext_of(content: bytes) -> bytes:
    """A ciphertext from its own bytes or from base64. Raises CIPHERTEXT_INVALID."""
    # The first byte of a ciphertext is its format version, which no base64 begins with.
    if content[:1] == bytes([_CIPHERTEXT_VERSION]):
        return content
    try:
        return b64decode(b"".join(content.split()), validate=True)
    except binascii.Error:
        raise StrongroomError(
            "CIPHERTEXT_INVALID", "this is neither a ciphertext nor base64 of one", field="ciphertext"
        ) from None


def moment_of(text: str, option: str) -> datetime:
    """A time: RFC 3339 (UTC where no zone is given), or an age such as `90s`, `15m`, `2h`, `7d`."""
    age = _AGE.fullmatch(text)
    if age:
        return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a time nor an age such as 15m", param_hint=option) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def later_of(text: str, option: str) -> datetime:
    """A time to come: RFC 3339, or how long from now, such as `15m`, `8h`, `30d`."""
    age = _AGE.fullmatch(text)
    if age:
        return datetime.now(UTC) + timedelta(**{_UNITS[age[2]]: int(age[1])})
    return moment_of(text, option)


def span_of(text: str, option: str) -> timedelta:
    """A span of time such as `90s`, `15m`, `6h`, `30d`."""
    span = _AGE.fullmatch(text)
    if not span:
        raise typer.BadParameter(f"{text!r} is no span such as 6h or 30d", param_hint=option)
    return timedelta(**{_UNITS[span[2]]: int(span[1])})


def write_bytes(path: Path, content: bytes, *, force: bool) -> None:
    """Writes a whole new file, mode 0600. Raises FILE_EXISTS unless `force`."""
    from strongroom.atomic import replacing

    with replacing(path, overwrite=force) as file:
        file.write(content)
