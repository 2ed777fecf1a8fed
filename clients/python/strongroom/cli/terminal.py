"""What reaches a terminal: text that shows what it holds, and never tells the terminal what to do.

Names, descriptions, errors and events come from the mesh, from targets and from other people. The services refuse
control characters; what is older, or from elsewhere, is escaped here, before any of it is written.
"""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from typing import TextIO

# C0 and C1, DEL, ends of lines that only some see, what shows a text in another order, and what is no character.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROLS_BUT_LINES = re.compile(rf"(?!\n){_CONTROLS.pattern}")


def visible(text: str, *, lines: bool = False) -> str:
    r"""A text with each control character as Python would write it, such as `\x1b`; with `lines` its lines stay."""
    if text.isprintable():
        return text
    return (_CONTROLS_BUT_LINES if lines else _CONTROLS).sub(_escaped, text)


def write_line(text: str, stream: TextIO | None = None) -> None:
    """Writes one line, on standard output unless another stream is given, at once."""
    stream = stream or sys.stdout
    stream.write(visible(text) + "\n")
    stream.flush()


def write_beside(text: str) -> None:
    """Writes one line on standard error, or nothing where that cannot be written: an answer and a status say enough."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            write_line(text, sys.stderr)


def _escaped(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode()
