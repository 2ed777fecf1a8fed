"""Strongroom's own vectors, as the files beside this one hold them (README.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parents[2] / "vectors"


def vectors(file: str, kind: str) -> list[Any]:
    """The `valid` or the `refused` vectors of a file, as parameters of a test."""
    document = json.loads((HERE / f"{file}.json").read_text())
    return [pytest.param(vector, id=vector["name"].replace(" ", "-")) for vector in document[kind]]
