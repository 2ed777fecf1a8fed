"""Values that are JSON (RFC 8259): their fields read, and changed, without touching a byte of the others.

A field is one member by its name, or any part by a JSON Pointer (RFC 6901).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from services.runtime.errors import Reason, StrongroomError, invalid
from services.runtime.sensitive import SensitiveBytes
from strongroom.json_texts import Part, decoder, parts, skip

_MAX_FIELD = 1024
_INDEX = re.compile(r"0|[1-9][0-9]*")
_BAD_ESCAPE = re.compile(r"~(?![01])")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def check_field(field: str) -> str:
    """A field that a request asks for; empty for the whole value. Raises FIELD_INVALID for a malformed pointer."""
    if len(field) > _MAX_FIELD:
        raise invalid("field", f"has more than {_MAX_FIELD} characters")
    if field.startswith("/") and _BAD_ESCAPE.search(field):
        raise invalid("field", "is no JSON Pointer: ~ is followed by neither 0 nor 1")
    return field


def field_of(value: SensitiveBytes, field: str) -> SensitiveBytes:
    """The field of a JSON value: a string as its text, anything else as it is written. Raises SECRET_FIELD_NOT_FOUND,
    also for a member that the value has twice, and for a string that is no text (half a surrogate pair)."""
    if read_json(value) is None:
        raise _no_field(field)
    text = value.reveal().decode()
    start, end = skip(text, 0), len(text.rstrip(" \t\n\r"))
    for token in _tokens(field):
        start, end = _inner(text, start, token, field)
    if text[start] != '"':
        return SensitiveBytes(text[start:end].encode())
    found = scanstring(text, start + 1)[0]
    if _SURROGATE.search(found):
        raise _no_field(field, ": it is half a surrogate pair, which is no text")
    return SensitiveBytes(found.encode())


def with_members(value: SensitiveBytes, changes: Mapping[str, Any]) -> SensitiveBytes:
    """A JSON object with other values for some members: None leaves one out, and what is not there yet comes last.
    Everything else keeps its bytes. What is no JSON object is replaced by one of these members."""
    text = value.reveal().decode() if json_object(value) is not None else "{}"
    for name, field in changes.items():
        text = _changed(text, name, field)
    return SensitiveBytes(text.encode())


def read_json(value: SensitiveBytes) -> Any:
    """What a value is as JSON, with each number as a Number; None for what is none. Of members that an object has
    twice, the last."""
    try:
        return decoder().decode(value.reveal().decode())
    except (ValueError, RecursionError):
        # Not handed on: the exception holds the value.
        return None


def json_object(value: SensitiveBytes) -> dict[str, Any] | None:
    """What a value is as JSON, where it is an object; None otherwise."""
    found = read_json(value)
    return found if isinstance(found, dict) else None


def ambiguity_of(value: SensitiveBytes) -> str:
    """Why readers would not agree on a value that is JSON: completes the sentence "the value …", names no part of it,
    and is empty where they would."""
    doubts: list[str] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) < len(pairs):
            doubts.append("has a member twice")
        if any(_SURROGATE.search(name) or (isinstance(item, str) and _SURROGATE.search(item)) for name, item in pairs):
            doubts.append("has half a surrogate pair in a text")
        return dict(pairs)

    try:
        decoder(members).decode(value.reveal().decode())
    except (ValueError, RecursionError):
        return "is no JSON"
    return doubts[0] if doubts else ""


def _tokens(field: str) -> list[str]:
    if not field.startswith("/"):
        return [field]
    return [token.replace("~1", "/").replace("~0", "~") for token in field[1:].split("/")]


def _inner(text: str, at: int, token: str, field: str) -> tuple[int, int]:
    """Where a member or an element of the value at `at` begins and has ended."""
    if text[at] == "{":
        found = [part for part in parts(text, at) if part.name == token]
    elif text[at] == "[" and _INDEX.fullmatch(token) and len(token) < len(str(len(text))) + 1:
        found = [part for number, part in enumerate(parts(text, at)) if number == int(token)]
    else:
        found = []
    if len(found) > 1:
        raise _no_field(field, " once, but several times")
    if not found:
        raise _no_field(field)
    return found[0].start, found[0].end


def _changed(text: str, name: str, field: Any) -> str:
    members = list(parts(text, skip(text, 0)))
    found = [number for number, part in enumerate(members) if part.name == name]
    if field is None:
        return _changed(_without(text, members, found[0]), name, None) if found else text
    written = json.dumps(field, ensure_ascii=False)
    if not found:
        end = members[-1].end if members else text.index("{") + 1
        return f"{text[:end]}{', ' if members else ''}{json.dumps(name, ensure_ascii=False)}: {written}{text[end:]}"
    for number in reversed(found):
        part = members[number]
        if not _is_same(text[part.start : part.end], written):
            text = text[: part.start] + written + text[part.end :]
    return text


def _without(text: str, members: list[Part], number: int) -> str:
    if number + 1 < len(members):
        return text[: members[number].begin] + text[members[number + 1].begin :]
    begin = members[number - 1].end if number else members[number].begin
    return text[:begin] + text[members[number].end :]


def _is_same(written: str, other: str) -> bool:
    """Whether two JSON texts mean the same, however they escape it."""
    return bool(decoder().decode(written) == decoder().decode(other))


def _no_field(field: str, why: str = "") -> StrongroomError:
    return StrongroomError(Reason.SECRET_FIELD_NOT_FOUND, f"the value has no field {field}{why}", field="field")
