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


def merge_patch(text: str, patch: str) -> str:
    """An object with a JSON merge patch (RFC 7396) applied, both known to be objects. Each member that the patch does
    not name stays as it is written, name and value; an object that nothing changes in stays as a whole. Raises
    RecursionError for what is nested too deeply."""
    text, patch = text.strip(" \t\n\r"), patch.strip(" \t\n\r")
    changes = {part.name: patch[part.start : part.end] for part in parts(patch, 0)}
    present = list(parts(text, 0))
    # Of a name that stands there twice, readers take the last.
    last = {part.name: part for part in present}
    members, changed = [], False
    for part in present:
        kept = text[part.start : part.end]
        wanted = changes.get(part.name)
        is_gone = wanted == "null" or (wanted is not None and part is not last[part.name])
        value = kept if wanted is None else _merged_value(kept, wanted)
        changed = changed or is_gone or value != kept
        if not is_gone:
            members.append((_name(text, part), value))
    for name, part in {part.name: part for part in parts(patch, 0)}.items():
        if name not in last and changes[name] != "null":
            members.append((_name(patch, part), _merged_value("{}", changes[name])))
            changed = True
    return "{" + ",".join(f"{name}:{value}" for name, value in members) + "}" if changed else text


def _name(text: str, member: Part) -> str:
    return text[member.begin : member.start].rstrip(" \t\n\r:")


def _merged_value(text: str, patch: str) -> str:
    if not patch.startswith("{"):
        return patch
    return merge_patch(text if text.startswith("{") else "{}", patch)


def _no_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")
