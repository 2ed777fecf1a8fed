"""Fields of values that are JSON: one member by its name, or any part by a JSON Pointer (RFC 6901)."""

from __future__ import annotations

import json
import re
from typing import Any

from services.runtime.errors import Reason, StrongroomError, invalid
from services.runtime.sensitive import SensitiveBytes

_MAX_FIELD = 1024
_INDEX = re.compile(r"0|[1-9][0-9]*")
_BAD_ESCAPE = re.compile(r"~(?![01])")


def check_field(field: str) -> str:
    """A field that a request asks for; empty for the whole value. Raises FIELD_INVALID for a malformed pointer."""
    if len(field) > _MAX_FIELD:
        raise invalid("field", f"has more than {_MAX_FIELD} characters")
    if field.startswith("/") and _BAD_ESCAPE.search(field):
        raise invalid("field", "is no JSON Pointer: ~ is followed by neither 0 nor 1")
    return field


def field_of(value: SensitiveBytes, field: str) -> SensitiveBytes:
    """The field of a JSON value: a string as its text, anything else as JSON. Raises SECRET_FIELD_NOT_FOUND."""
    found = read_json(value)
    for token in _tokens(field):
        found = _member(found, token, field)
    return SensitiveBytes((found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)).encode())


def read_json(value: SensitiveBytes) -> Any:
    """What a value is as JSON; None for what is none."""
    try:
        return json.loads(value.reveal())
    except (ValueError, RecursionError):
        # Not handed on: the exception holds the value.
        return None


def json_object(value: SensitiveBytes) -> dict[str, Any] | None:
    """The same where it is an object; None otherwise."""
    found = read_json(value)
    return found if isinstance(found, dict) else None


def _tokens(field: str) -> list[str]:
    if not field.startswith("/"):
        return [field]
    return [token.replace("~1", "/").replace("~0", "~") for token in field[1:].split("/")]


def _member(value: Any, token: str, field: str) -> Any:
    if isinstance(value, dict) and token in value:
        return value[token]
    if isinstance(value, list) and _INDEX.fullmatch(token) and int(token) < len(value):
        return value[int(token)]
    raise StrongroomError(Reason.SECRET_FIELD_NOT_FOUND, f"the value has no field {field}", field="field")
