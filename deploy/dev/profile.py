"""The command line's profile for the mesh, so that `strongroom` works at once in another terminal."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.dev.errors import MeshError
from deploy.dev.files import private_directory, toml_text, write_file

PROFILE = "dev"
_HEADER = re.compile(r"\s*\[")


class ProfileError(MeshError):
    """The user's profile file is there but cannot be read."""


def profile_name(path: Path, trust: str) -> str:
    """The name of the profile of the mesh whose authority is `trust`: `dev`, or `dev-2` and so on where that is the
    profile of another mesh that is still there. Raises ProfileError where the file cannot be read.
    """
    try:
        profiles = tomllib.loads(path.read_text()).get("profiles", {}) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise ProfileError(f"{path} cannot be read: {error}") from error
    names = itertools.chain([PROFILE], (f"{PROFILE}-{number}" for number in itertools.count(2)))
    return next(name for name in names if _is_free(path, profiles.get(name), trust))


def _is_free(path: Path, profile: Any, trust: str) -> bool:
    theirs = profile.get("trust") if isinstance(profile, dict) else None
    return not isinstance(theirs, str) or theirs == trust or not (path.parent / theirs).exists()


def write_profile(path: Path, profile: Mapping[str, Any], name: str = PROFILE) -> bool:
    """Puts the profile `name` into the file at `path`, leaving the rest as it is.

    It becomes the current one where none is; answers whether it is current now. Raises ProfileError where the
    file cannot be read, and leaves it alone.
    """
    try:
        text = path.read_text() if path.exists() else ""
        document: dict[str, Any] = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ProfileError(f"{path} cannot be read: {error}") from error
    if not document.get("current"):
        document = {**document, "current": name}
        text = toml_text({"current": name}) + "\n" + text
    document["profiles"] = {**document.get("profiles", {}), name: profile}
    written = _without(text, name) + toml_text({"profiles": {name: profile}})
    if not _says(written, document):
        written = toml_text(document)  # written in a way that lines do not tell: rather lose comments than profiles
    private_directory(path.parent)
    write_file(path, written, mode=0o600)
    return bool(document["current"] == name)


def _without(text: str, name: str) -> str:
    """The text without the tables of the profile `name`, comments of the others kept."""
    own = re.compile(rf"\s*\[profiles\.{re.escape(name)}[\].]")
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
