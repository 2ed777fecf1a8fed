"""Changes to the profile file: one profile is put into it, and the rest, comments too, stays as it is."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from strongroom.atomic import replacing
from strongroom.errors import StrongroomError

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

    Values are texts, booleans and tables of these. Raises FILE_EXISTS for a profile that is there, unless `overwrite`;
    PROFILE_INVALID where the file cannot be changed without harm to the rest.
    """
    if not _NAME.fullmatch(name):
        raise _invalid(path, f"{name!r} is no name for a profile: letters, digits, `.`, `_` and `-` alone")
    text, document = _read(path)
    if name in document.get("profiles", {}) and not overwrite:
        raise StrongroomError(
            "FILE_EXISTS", f"{path} has a profile {name} already", code="ALREADY_EXISTS", field="profile"
        )
    if not document.get("current"):
        text = f"current = {json.dumps(name)}\n\n{text}"
        document = {**document, "current": name}
    document["profiles"] = {**document.get("profiles", {}), name: table}
    written = _without(text, name) + "\n".join(_lines(("profiles", name), table)) + "\n"
    if not _says(written, document):
        raise _invalid(path, f"the profile {name} is written in a form that cannot be changed here: edit the file")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing(path, overwrite=True) as file:
        file.write(written.encode())
    return bool(document["current"] == name)


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text() if path.exists() else ""
        document = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise _invalid(path, str(error)) from error
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


def _lines(name: tuple[str, ...], table: Mapping[str, Any]) -> Iterator[str]:
    yield f"[{'.'.join(map(_key, name))}]"
    for key, value in table.items():
        if not isinstance(value, Mapping):
            # JSON's escapes are TOML's too, but for DEL.
            yield f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield ""
            yield from _lines((*name, key), value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _says(text: str, document: Mapping[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == document
    except ValueError:
        return False


def _invalid(path: Path, why: str) -> StrongroomError:
    return StrongroomError("PROFILE_INVALID", f"{path}: {why}", field="profile")
