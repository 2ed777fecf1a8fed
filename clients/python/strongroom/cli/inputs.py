"""What people type: bytes from a file, a pipe or the line itself, pairs, and places to write to.

A FILE is a path, or `-` for standard input, or for standard output where something is written.
"""

from __future__ import annotations

import binascii
import json
import re
import sys
from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from strongroom import bounded
from strongroom.cli.command import WRITTEN
from strongroom.cli.forms import warn
from strongroom.cli.spans import later_of, moment_of, span_of
from strongroom.cli.standard_input import read_standard_input
from strongroom.errors import StrongroomError

__all__ = ["later_of", "moment_of", "span_of"]

STANDARD = Path("-")

Context = Annotated[
    list[str] | None,
    typer.Option("--context", metavar="NAME=VALUE", help="One pair of the encryption context; may be repeated."),
]
InputFile = Annotated[
    Path | None, typer.Option("--in", metavar="FILE", help="Read it from a file; - is standard input.")
]
OutputFile = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Write the bytes to a new file (mode 0600)."), WRITTEN
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite a file that exists.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="A tag; may be repeated.")]
AllTags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="NAME=VALUE", help="All tags that it has from now on; may be repeated."),
]
NoTags = Annotated[bool, typer.Option("--no-tags", help="Take every tag away.")]
Comment = Annotated[
    str, typer.Option(metavar="TEXT", help="Why, for the audit log: up to 256 characters.", show_default=False)
]
Description = Annotated[str, typer.Option(metavar="TEXT", help="For people.", show_default=False)]

KeyName = Annotated[str, typer.Argument(metavar="KEY", help="An id, alias/ALIAS, or a full name.", show_default=False)]
Limit = Annotated[
    int | None, typer.Option(min=1, max=1_000_000, metavar="COUNT", help="Most to list; all of them where not given.")
]

_CIPHERTEXT_VERSION = 0x01
# What keys have that are raw bytes.
_KEY_SIZES = frozenset({16, 32, 48, 64})
_BASE64 = re.compile(rb"[A-Za-z0-9+/\s]+={0,2}\s*")
# `a=1,b=2`, which reads like two pairs.
_LOOKS_LIKE_MORE = re.compile(r",\s*[A-Za-z_][\w.-]*=")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def pairs_of(pairs: list[str] | None, option: str = "--context") -> dict[str, str]:
    """NAME=VALUE pairs as a mapping. A usage error where a pair has no `=`, no name, or a name that came before; a
    warning where one looks like several.
    """
    mapping: dict[str, str] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"'{pair}' is not NAME=VALUE", param_hint=option)
        if not name:
            raise typer.BadParameter(f"'{pair}' has no name before the =", param_hint=option)
        if name in mapping:
            raise typer.BadParameter(f"'{name}' comes twice", param_hint=option)
        if _LOOKS_LIKE_MORE.search(value):
            again = f" {option}" if option.startswith("-") else ""
            warn(f"{pair} is one pair, whose value is '{value}': for several, write{again} A=1{again} B=2")
        mapping[name] = value
    return mapping


def all_tags_of(tag: list[str] | None, *, none: bool) -> dict[str, str] | None:
    """All tags that something has from now on; None where they stay as they are."""
    if tag and none:
        raise typer.BadParameter("goes without --no-tags", param_hint="--tag")
    return pairs_of(tag, "--tag") if tag or none else None


def read_bytes(text: str | None, path: Path | None, limit: int, field: str, hint: str = "") -> bytes:
    """The bytes of `--text`, of `--in`, or of standard input; a usage error where both are given.

    Raises FIELD_TOO_LARGE beyond `limit` bytes, with `hint` on what to do instead.
    """
    if text is not None and path is not None:
        raise typer.BadParameter("give either a text or a file", param_hint="--text / --in")
    if text is not None:
        content = text.encode()
    elif path is not None and path != STANDARD:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    else:
        content = read_standard_input(limit + 1, field)
    if len(content) > limit:
        raise StrongroomError("FIELD_TOO_LARGE", f"{field} is larger than {limit} bytes{hint}", field=field)
    return content


def read_file(path: Path, limit: int, field: str = "input") -> bytes:
    """The bytes of a file, or of standard input. Raises FILE_TOO_LARGE."""
    if path != STANDARD:
        return bounded.read_file(path, limit)
    content = read_standard_input(limit + 1, field)
    if len(content) > limit:
        raise StrongroomError(
            "FILE_TOO_LARGE", f"standard input is larger than {limit} bytes", code="FAILED_PRECONDITION"
        )
    return content


def read_text(path: Path, limit: int = bounded.TEXT_BYTES, *, field: str = "") -> str:
    """The text of a UTF-8 file, or of standard input, without a byte order mark; with `field` also out of JSON or YAML
    in which a command wrote it. Raises FILE_TOO_LARGE, FILE_NOT_TEXT.
    """
    try:
        content = read_file(path, limit).removeprefix(_BYTE_ORDER_MARK)
        return (text_within(content, field) if field else content).decode()
    except UnicodeDecodeError:
        what = "standard input" if path == STANDARD else str(path)
        raise StrongroomError("FILE_NOT_TEXT", f"{what} is not text in UTF-8", code="FAILED_PRECONDITION") from None


def given_bytes(encoded: str, path: Path | None, option: str, field: str, limit: int) -> bytes:
    """Bytes that a command printed before: base64 on the line, or a file with them in any form in which they were
    written: as they are, in base64, or within JSON or YAML as `field`.
    """
    if bool(encoded) == (path is not None):
        raise typer.BadParameter(f"give either base64 or a file: {option} or {option}-file", param_hint=option)
    if path is not None:
        return decoded(read_file(path, limit, field), field)
    content = encoded.encode()
    if not _BASE64.fullmatch(content):
        raise typer.BadParameter("is no base64", param_hint=option)
    made = _of_base64(content)
    if not made:
        raise typer.BadParameter("is no base64", param_hint=option)
    return made


def decoded(content: bytes, field: str) -> bytes:
    """Bytes out of what a command wrote them in: as they are, in base64, or in JSON, YAML or a table as `field`."""
    content = _member(content, field) or content
    if content[:1] == bytes([_CIPHERTEXT_VERSION]) or not _BASE64.fullmatch(content):
        return content
    return _of_base64(content) or content


def material_of(content: bytes) -> bytes:
    """Key material out of what `random` or `data-key` printed: base64, hex digits, JSON, YAML or a table. A key that
    lies in its file as it is, raw or in PEM or DER, stays so.
    """
    member = _member(content, "data") or _member(content, "plaintext")
    text = (member or content).strip()
    if not member and len(content) in _KEY_SIZES:
        return content
    for read in (_of_hex, _of_base64):
        made = read(text)
        if len(made) in _KEY_SIZES:
            warn(f"what was read is written in {read.__name__.rpartition('_')[2]}: it stands for {len(made)} bytes")
            return made
    return content


def text_within(content: bytes, field: str) -> bytes:
    """A text out of JSON or YAML in which a command wrote it as `field`; everything else as it is."""
    if content.lstrip()[:1] == b"{":
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            return content
        found = document.get(field) if isinstance(document, dict) else None
        return found.encode() if isinstance(found, str) and found else content
    line = re.search(rb'^%s: (".*")\r?$' % re.escape(field.encode()), content, re.MULTILINE)
    try:
        return str(json.loads(line[1])).encode() if line else content
    except ValueError:
        return content


def ciphertext_of(content: bytes) -> bytes:
    """A ciphertext, however it was written. Raises CIPHERTEXT_INVALID."""
    found = decoded(content, "ciphertext")
    # The first byte of a ciphertext is its format version, which no base64 begins with.
    if found == content and content[:1] != bytes([_CIPHERTEXT_VERSION]):
        raise StrongroomError(
            "CIPHERTEXT_INVALID", "this is neither a ciphertext nor base64 of one", field="ciphertext"
        )
    return found


def without_line_end(value: bytes, *, keep: bool) -> bytes:
    """A value without the newline that a shell or an editor put at its end. Bytes that are no text, and texts of
    several lines, such as a private key in PEM, stay as they are.
    """
    if keep or not value.endswith(b"\n"):
        return value
    line = value.removesuffix(b"\n").removesuffix(b"\r")
    try:
        line.decode()
    except UnicodeDecodeError:
        return value
    if b"\n" in line or b"\0" in line:
        return value
    if sys.stderr.isatty():
        warn("the newline at the end is no part of the value: --keep-newline keeps it")
    return line


def kept_file(path: Path | None, option: str) -> Path | None:
    """A file that is read again later, and so cannot be standard input: that is a usage error."""
    if path == STANDARD:
        raise typer.BadParameter("standard input cannot be read again later: give a file", param_hint=option)
    return path


def require_writable(paths: Sequence[Path], *, force: bool) -> None:
    """Returns where each file can be written, before anything is done whose answer would be lost: a file is made beside
    it, as `write_bytes` does, and removed.

    Raises FILE_EXISTS, FILE_NOT_REGULAR, OSError.
    """
    import tempfile

    from strongroom.atomic import check_destination

    for path in paths:
        if path == STANDARD:
            continue
        check_destination(path, overwrite=force)
        target = path.resolve()
        try:
            tempfile.NamedTemporaryFile(prefix=f".{target.name}.", suffix=".partial", dir=target.parent).close()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None


def write_bytes(path: Path, content: bytes, *, force: bool) -> None:
    """Writes a whole new file, mode 0600, or to standard output for `-`. Raises FILE_EXISTS unless `force`."""
    if path == STANDARD:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
        return
    from strongroom.atomic import replacing

    with replacing(path, overwrite=force) as file:
        file.write(content)


def _member(content: bytes, field: str) -> bytes:
    """What the field is in an answer in JSON, in YAML or in a table; nothing where this is none of them."""
    found = text_within(content, field)
    if found != content:
        return found
    line = re.search(rb"^%s:? +([A-Za-z0-9+/=]+)\r?$" % re.escape(field.encode()), content, re.MULTILINE)
    return line[1] if line else b""


def _of_hex(content: bytes) -> bytes:
    """What hex digits stand for; nothing where they are none."""
    try:
        return binascii.unhexlify(content)
    except binascii.Error:
        return b""


def _of_base64(content: bytes) -> bytes:
    """What base64 stands for; nothing where it is none."""
    try:
        return b64decode(b"".join(content.split()), validate=True)
    except binascii.Error:
        return b""
