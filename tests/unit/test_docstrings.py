"""Docstrings stand alone: none sends its reader to another one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("services", "clients/python", "deploy", "tools", "bench")
ELSEWHERE = re.compile(r"(See |The same\b|As )")


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Texts that stand as statements of their own, also those behind a constant or a field."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def test_every_docstring_stands_alone() -> None:
    leaning = [
        f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if "_pb2" not in path.name
        for line, text in docstrings(path)
        if ELSEWHERE.match(text)
    ]
    assert leaning == []
