"""The extension in native code, which is there where `make native` has built it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

NAME = "strongroom_native"

Choice = Literal["grpcio", "native", "auto"]


def is_used(engine: Choice, setting: str) -> bool:
    """Whether the extension does what grpcio would; ends the process where the setting asks for it and it is not
    there."""
    is_built = find_spec(NAME) is not None
    if engine == "native" and not is_built:
        raise SystemExit(f"{setting}: the extension is not built here: run `make native`, or say grpcio")
    return is_built and engine != "grpcio"
