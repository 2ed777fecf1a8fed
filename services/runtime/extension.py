"""The extension in native code, which is there where `make native` has built it."""

from __future__ import annotations

import logging
from importlib import metadata
from typing import Literal

VERSION = "0.2.0"
"""Of the extension that these services call; raised whenever `native/strongroom_native.pyi` changes."""

_DISTRIBUTION = "strongroom-native"

log = logging.getLogger(__name__)

Choice = Literal["grpcio", "native", "auto"]


def is_used(engine: Choice, setting: str) -> bool:
    """Whether the extension does what grpcio would; ends the process where the setting asks for it and it is not there,
    or is another than these services call."""
    if engine == "grpcio":
        return False
    if is_built():
        return True
    built = _built()
    found = f"is {built} here, and {VERSION} is called" if built else "is not built here"
    if engine == "native":
        raise SystemExit(f"{setting}: the extension {found}: run `make native`, or say grpcio")
    if built:
        log.warning("%s: the extension %s, so grpcio is used: run `make native`", setting, found)
    return False


def is_built() -> bool:
    """Whether the extension is here that these services call."""
    return _built() == VERSION


def _built() -> str:
    """Which version is installed; empty where none is."""
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return ""
