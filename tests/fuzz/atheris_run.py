"""One run of atheris, in a process of its own, with libFuzzer's own arguments behind the target's name."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["strongroom.encryption"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()
