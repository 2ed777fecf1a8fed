"""JSON (RFC 8259) as it is written: where the parts of a text begin and end.

So what nobody asks to change keeps its bytes. Python's own parser reads texts and finds where values end; numbers are
never converted, since a float of the same number is often another text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, NoReturn

_SPACE = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written."""

    text: str


@dataclass(frozen=True, slots=True)
class Part:
    """A member of an object, or an element of a list, in its text."""

    name: str
    """Empty for an element."""
    begin: int
    """Where its name begins, or its value where it has none."""
    start: int
    """Where its value begins."""
    end: int
    """Where its value has ended."""


def decoder(members: Any = None) -> json.JSONDecoder:
    """Reads JSON with each number as a Number; NaN and Infinity, which are none, raise ValueError."""
    return json.JSONDecoder(
        parse_int=Number, parse_float=Number, parse_constant=_no_constant, object_pairs_hook=members
    )


def parts(text: str, at: int) -> Iterator[Part]:
    """What an object or a list holds that begins at `at`, in a text that is known to be JSON."""
    values, in_object = decoder(), text[at] == "{"
    at = skip(text, at + 1)
    while text[at] not in "}]":
        name, begin = "", at
        if in_object:
            name, at = scanstring(text, at + 1)
            at = skip(text, skip(text, at) + 1)
        _, end = values.raw_decode(text, at)
        yield Part(name, begin, at, end)
        at = skip(text, end)
        if text[at] == ",":
            at = skip(text, at + 1)


def skip(text: str, at: int) -> int:
    """Where something begins that spaces may stand before."""
    space = _SPACE.match(text, at)
    return space.end() if space is not None else at


def member(text: str, *path: str) -> str:
    """The text of an object's member, or of a member within that; `null` where there is none, and the last of several
    of one name. Raises ValueError for what is no JSON."""
    decoder().decode(text)
    for name in path:
        text = text.strip(" \t\n\r")
        held = parts(text, 0) if text.startswith("{") else ()
        found = {part.name: text[part.start : part.end] for part in held}
        text = found.get(name, "null")
    return text


def _no_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")
