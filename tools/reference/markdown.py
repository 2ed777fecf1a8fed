"""Pieces of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

_SPACE = re.compile(r"\s+")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table; what is in a cell stays on its line."""
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    for row in rows:
        yield f"| {' | '.join(map(cell, row))} |"
    yield ""


def cell(text: str) -> str:
    """A text for a cell."""
    return _SPACE.sub(" ", text).strip().replace("|", "\\|")


def code(text: str) -> str:
    """A text as code; nothing for no text."""
    return f"`{text}`" if text else ""


def document(title: str, lines: Iterable[str]) -> str:
    """A whole page."""
    return "\n".join([f"# {title}", "", *lines]).rstrip() + "\n"
