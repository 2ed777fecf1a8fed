"""No file or function of services and client is longer than somebody reads in one go."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("services", "clients/python")
FILE_LINES = 400
FUNCTION_LINES = 50

# What is longer still, with a little room to work in. The list only shrinks: whoever shortens one takes it out.
LONGER_FILES: dict[str, int] = {}
LONGER_FUNCTIONS: dict[str, int] = {}


def modules() -> Iterator[tuple[str, str]]:
    """Every module that people write, by its path. A migration stays as it was when it ran first."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "_pb2" not in path.name and "migrations" not in path.parts:
                yield path.relative_to(ROOT).as_posix(), path.read_text()


def functions() -> Iterator[tuple[str, int]]:
    """Every function as `path:name`, and how many lines it has."""
    for path, text in modules():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def files() -> Iterator[tuple[str, int]]:
    for path, text in modules():
        yield path, len(text.splitlines())


@pytest.mark.parametrize(
    ("measured", "most", "longer"),
    [(files, FILE_LINES, LONGER_FILES), (functions, FUNCTION_LINES, LONGER_FUNCTIONS)],
    ids=["files", "functions"],
)
def test_nothing_is_longer_than_it_may_be(measured: object, most: int, longer: dict[str, int]) -> None:
    assert callable(measured)
    lines = dict(measured())
    assert len(lines) > 200
    assert {name: count for name, count in lines.items() if count > longer.get(name, most)} == {}
    assert [name for name in longer if lines.get(name, 0) <= most] == [], "no longer too long: take it off the list"
