"""What reaches a terminal: text that shows what it holds, and never tells the terminal what to do.

Names, descriptions, errors and events come from the mesh, from targets and from other people. The services refuse
control characters; what is older, or from elsewhere, is escaped here, before any of it is written.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

_CONTROLS = re.compile(
    r"[\x00-\x1f\x7f-\x9f"  # C0, DEL, C1: what a terminal obeys
    r"\u2028\u2029"  # ends of lines that only some see
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what shows a text in another order
    # What shows nothing, so that two texts look alike; but not what joins letters or parts them: languages need it.
    r"\u180e\u200b\u2060-\u2065\u206a-\u206f\ufeff\ufff0-\ufffb"
    r"\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"
    r"\ud800-\udfff\ufffe\uffff]"  # what is no character
)
_CONTROLS_BUT_LINES = re.compile(rf"(?!\n){_CONTROLS.pattern}")


def visible(text: str, *, lines: bool = False) -> str:
    r"""A text with each control character, and each that shows nothing, as Python would write it, such as `\x1b`; with
    `lines` its lines stay."""
    return text if text.isprintable() else escaped(text, _in_python, lines=lines)


def escaped(text: str, write: Callable[[str], str], *, lines: bool = False) -> str:
    """A text with those characters as `write` has it for some language."""
    return (_CONTROLS_BUT_LINES if lines else _CONTROLS).sub(lambda found: write(found[0]), text)


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


def _in_python(character: str) -> str:
    return character.encode("unicode_escape").decode()
