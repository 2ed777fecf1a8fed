"""Members of JSON as they are written. A reader would turn 1.10 into 1.1 and 1e400 into Infinity, which is no JSON."""

from __future__ import annotations

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import NoReturn

_SPACE = re.compile(r"[ \t\n\r]*")


def member(text: str, *path: str) -> str:
    """The text of an object's member, or of a member within that; `null` where there is none, and the last of several
    of one name. Raises ValueError for what is no JSON."""
    decoder = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_constant)
    decoder.decode(text)
    for name in path:
        text = _member(decoder, text.strip(" \t\n\r"), name)
    return text


def _member(decoder: json.JSONDecoder, text: str, wanted: str) -> str:
    found = "null"
    if not text.startswith("{"):
        return found
    at = _skip(text, 1)
    while text[at] != "}":
        name, at = scanstring(text, at + 1)
        start = _skip(text, _skip(text, at) + 1)
        _, end = decoder.raw_decode(text, start)
        if name == wanted:
            found = text[start:end]
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space is not None else at


def _no_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")
