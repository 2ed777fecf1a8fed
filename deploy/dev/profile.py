"""The command line's profile for the mesh, so that `strongroom` works at once in another terminal."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.dev.errors import MeshError
from strongroom import profile_file
from strongroom.errors import StrongroomError

PROFILE = "dev"


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
        return profile_file.put(path, name, profile, overwrite=True)
    except (StrongroomError, OSError) as error:
        raise ProfileError(f"{path} cannot be changed: {error}") from error
