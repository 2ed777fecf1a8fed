"""Changes to the profile file: one profile is put into it, and the rest stays as it is, comments too."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strongroom.atomic import write_own
from strongroom.causes import cause_of
from strongroom.errors import StrongroomError
from strongroom.profiles import CURRENT_LINE
from strongroom.toml_text import toml_text

_HEADER = re.compile(r"\s*\[")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def table_of(path: Path, name: str) -> dict[str, Any]:
    """What the file says of a profile, as it stands there; empty where it has none. Raises PROFILE_INVALID."""
    _, document = _read(path)
    found = document.get("profiles", {}).get(name, {})
    return dict(found) if isinstance(found, Mapping) else {}


def put(path: Path, name: str, table: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Puts a profile into the file, which is made with mode 0600 where it is not there. It becomes the current one
    where none is; answers whether it is current now.

    Raises FILE_EXISTS for a profile that is there, unless `overwrite`; PROFILE_INVALID for a file that cannot be read.
    """
    if not _NAME.fullmatch(name):
        raise _invalid(path, f"'{name}' is no name for a profile: letters, digits, `.`, `_` and `-` alone")
    text, document = _read(path)
    if name in document.get("profiles", {}) and not overwrite:
        raise StrongroomError(
            "FILE_EXISTS", f"{path} has a profile {name} already", code="ALREADY_EXISTS", field="profile"
        )
    if not document.get("current"):
        text = toml_text({"current": name}) + "\n" + text
        document = {**document, "current": name}
    document["profiles"] = {**document.get("profiles", {}), name: table}
    written = _without(text, name) + toml_text({"profiles": {name: table}})
    if not _says(written, document):
        written = toml_text(document)  # written in a way that lines do not tell: rather lose comments than profiles
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _replace(path, written)
    return bool(document["current"] == name)


def remove(path: Path, name: str) -> None:
    """Takes a profile out of the file; none is current where it was. Raises PROFILE_INVALID."""
    text, document = _read(path)
    document["profiles"] = {other: table for other, table in document.get("profiles", {}).items() if other != name}
    if not document["profiles"]:
        del document["profiles"]
    written = _without(text, name)
    if document.get("current") == name:
        del document["current"]
        written = CURRENT_LINE.sub("", written, count=1)
    _replace(path, written if _says(written, document) else toml_text(document))


def _replace(path: Path, text: str) -> None:
    write_own(path, text.encode())


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text() if path.exists() else ""
        document = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise _invalid(path, cause_of(error)) from error
    if not isinstance(document.get("profiles", {}), dict):
        raise _invalid(path, "`profiles` is no table")
    return text, document


def _without(text: str, name: str) -> str:
    """The text without the tables of a profile."""
    own = re.compile(rf"\s*\[profiles\.(?:{re.escape(name)}|\"{re.escape(name)}\")[\].]")
    kept, skipping = [], False
    for line in text.splitlines():
        if _HEADER.match(line):
            skipping = own.match(line) is not None
        if not skipping:
            kept.append(line)
    rest = "\n".join(kept).strip()
    return f"{rest}\n\n" if rest else ""


def _says(text: str, document: Mapping[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == document
    except ValueError:
        return False


def _invalid(path: Path, why: str) -> StrongroomError:
    return StrongroomError("PROFILE_INVALID", f"{path}: {why}", field="profile")
