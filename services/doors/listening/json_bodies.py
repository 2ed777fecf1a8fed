"""JSON from strangers: bounded in number and depth, without duplicate members, texts kept as given."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from json import JSONDecoder
from typing import Any, NoReturn

from services.doors.listening.exchange import HttpError

MAX_DEPTH = 64
MAX_VALUES = 50_000
_CONTAINERS = (dict, list)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = JSONDecoder()


def parse(body: bytes) -> dict[str, Any]:
    """The object that a body is; an empty one for no body, or for `null`, which Go's client sends for none. Raises
    HttpError 400."""
    if is_nothing(body):
        return {}
    _require_few(body)
    try:
        value = json.loads(body.decode(), object_pairs_hook=_members, parse_constant=_no_constant)
        if _SURROGATE.search(body):
            # Half a character, which is in no text that the mesh takes. Those that are in pairs are one.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise HttpError(400, f"the body is no JSON that is taken here: {_why(error)}") from None
    if not isinstance(value, dict):
        raise HttpError(400, "the body is no JSON object")
    _require_shallow(value)
    return value


def is_nothing(body: bytes) -> bool:
    """Whether a body has no members to speak of."""
    return body.strip() in (b"", b"null")


def texts(text: str) -> Mapping[str, str]:
    """The members of an object that `parse` has read, each as it is written."""
    found: dict[str, str] = {}
    at = _after_space(text, 0) + 1
    while text[at := _after_space(text, at)] != "}":
        if text[at] == ",":
            at = _after_space(text, at + 1)
        name, at = _DECODER.raw_decode(text, at)
        begin = _after_space(text, _after_space(text, at) + 1)
        _, at = _DECODER.raw_decode(text, begin)
        found[name] = text[begin:at]
    return found


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _require_few(body: bytes) -> None:
    if max(body.count(b","), body.count(b"[") + body.count(b"{")) > MAX_VALUES:
        raise HttpError(400, f"the body has more than {MAX_VALUES} values")


def _require_shallow(value: Any) -> None:
    """Of what has been read, level by level; the reader itself ends at some thousand."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            member
            for container in level
            for member in (container.values() if type(container) is dict else container)
            if type(member) in _CONTAINERS
        ]
        if not level:
            return
    raise HttpError(400, f"the body is nested deeper than {MAX_DEPTH}")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has a member twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _why(error: Exception) -> str:
    # The decoder's own words name places; what is at them is not repeated.
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    if isinstance(error, UnicodeError):
        return "it is not UTF-8"
    return str(error) if not isinstance(error, RecursionError) else "it is nested too deeply"
