"""Bytes and secrets that a command answers."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Annotated, Any

import typer

from strongroom.cli.command import Report, facts_report
from strongroom.cli.inputs import STANDARD, write_bytes

SecretOut = Annotated[
    Path | None,
    typer.Option(
        "--secret-out", metavar="FILE", help="Write the secret to a new file (mode 0600), and do not show it."
    ),
]


def bytes_report(
    document: dict[str, Any],
    name: str,
    content: bytes,
    path: Path | None,
    *,
    force: bool,
    encoded: bool,
    note: str = "",
) -> Report:
    """Bytes for a new file, or for standard output: as they are, or `encoded` in a line of base64. `--out -` writes
    them as they are, too.
    """
    if path == STANDARD:
        return Report(document, raw=content, note=note)
    if path is not None:
        write_bytes(path, content, force=force)
        told = "; ".join(filter(None, (f"wrote {len(content)} bytes to {path}", note)))
        return Report({**document, name: None, f"{name}_file": path}, note=told)
    return Report(document, raw=b64encode(content) + b"\n" if encoded else content, note=note)


def secret_report(document: dict[str, Any], name: str, path: Path | None, *, force: bool) -> Report:
    """Facts with a secret in the field `name`, which nobody can show again: for a new file, or on standard output."""
    secret = document[name]
    if path == STANDARD:
        return Report(document, raw=secret.encode() + b"\n")
    if path is None:
        return facts_report(document, note="the secret is not shown again" if secret else "")
    write_bytes(path, secret.encode(), force=force)
    return facts_report({**document, name: None, f"{name}_file": path}, note=f"wrote the secret to {path}")
