"""Bytes and secrets that a command answers."""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from strongroom.cli.command import WRITTEN, Report, Session, facts_report
from strongroom.cli.complaints import one_failed, status_of
from strongroom.cli.forms import warn
from strongroom.cli.inputs import STANDARD, write_bytes
from strongroom.errors import StrongroomError

SecretOut = Annotated[
    Path | None,
    typer.Option(
        "--secret-out", metavar="FILE", help="Write the secret to a new file (mode 0600), and do not show it."
    ),
    WRITTEN,
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


def files_report(
    document: dict[str, Any], contents: Mapping[str, bytes], paths: Mapping[str, Path | None], *, force: bool
) -> Report:
    """Facts with several contents by their fields, each for a new file, for standard output as it is and alone, or
    among the facts.
    """
    places = [path if path == STANDARD else path.resolve() for path in paths.values() if path is not None]
    if len(set(places)) < len(places):
        raise typer.BadParameter("two files are to be written to the same place")
    shown, notes, raw = dict(document), [], None
    for name, content in contents.items():
        path = paths[name]
        if path == STANDARD:
            raw = content
        elif path is not None:
            write_bytes(path, content, force=force)
            notes.append(f"wrote {len(content)} bytes to {path}")
            shown = {**shown, name: None, f"{name}_file": path}
    return facts_report(shown) if raw is None else Report(shown, raw=raw, note="; ".join(notes))


def require_all_told(contents: Mapping[str, Path | None], flags: Mapping[str, str]) -> None:
    """A usage error where one of several contents is for standard output, and another would be told nowhere."""
    if STANDARD in contents.values():
        for name, path in contents.items():
            if path is None:
                raise typer.BadParameter("needs a file, as standard output is for another", param_hint=flags[name])


def require_shown(session: Session, path: Path | None) -> None:
    """A usage error where a secret that nobody can show again would be shown nowhere."""
    if session.form == "name" and path is None:
        raise typer.BadParameter("needed, as -o name does not show the secret", param_hint="--secret-out")


def secret_report(document: dict[str, Any], name: str, path: Path | None, *, force: bool) -> Report:
    """Facts with a secret in the field `name`, which nobody can show again: for a new file, or on standard output.

    Where the file cannot be written after all, that is told, and the secret is shown on a terminal, or kept in another
    file: what standard output goes into else is no place that its owner chose for it.
    """
    secret = document[name]
    if path == STANDARD:
        return Report(document, raw=secret.encode() + b"\n")
    if path is None:
        return facts_report(document, note="the secret is not shown again" if secret else "")
    try:
        write_bytes(path, secret.encode(), force=force)
    except (StrongroomError, OSError) as error:
        one_failed(str(path), error)
        return _elsewhere(document, name, status_of(error))
    return facts_report({**document, name: None, f"{name}_file": path}, note=f"wrote the secret to {path}")


def _elsewhere(document: dict[str, Any], name: str, status: int) -> Report:
    """A secret whose own file could not be written: shown on a terminal, or kept in a file beside the profiles or among
    the temporary ones."""
    if _is_terminal():
        note = "the secret is shown here, as it could not be written, and is not shown again"
        return replace(facts_report(document, note=note, exit_code=status), whole=True)
    kept = _kept(document[name].encode())
    where = f"it is in {kept}: move it" if kept else "it could not be kept elsewhere: make another one"
    warn(f"the secret is not shown, as standard output is no terminal; {where}")
    return facts_report({**document, name: None, f"{name}_file": kept}, exit_code=status)


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _kept(secret: bytes) -> Path | None:
    """The new file that a secret is kept in, or None where there is no place for it."""
    from secrets import token_hex

    for folder in _folders():
        path = folder / f"secret-{token_hex(8)}"
        try:
            write_bytes(path, secret, force=False)
        except (StrongroomError, OSError):
            continue
        return path
    return None


def _folders() -> Iterator[Path]:
    import tempfile

    from strongroom.profiles import profile_path

    # Whoever has no home directory has no profiles.
    with suppress(StrongroomError):
        yield profile_path().parent
    with suppress(OSError):
        yield Path(tempfile.gettempdir())
