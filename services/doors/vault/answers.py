"""Answers as Vault writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from services.doors.listening.exchange import Response
from services.runtime import telemetry
from services.runtime.clock import microseconds

NO_CONTENT = Response(204)


class Raw:
    """JSON that is answered as it was given."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def is_object(text: str) -> bool:
    """Whether a text is one JSON object, and so may stand in an answer as it is."""
    if not text.lstrip(" \t\r\n").startswith("{"):
        return False
    try:
        return isinstance(json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse), dict)
    except (ValueError, RecursionError):
        return False


def bare(payload: Mapping[str, Any], status: int = 200) -> Response:
    """An answer without the usual envelope."""
    return Response(status, _text(payload).encode())


def data(
    payload: Mapping[str, Any],
    *,
    status: int = 200,
    warnings: Sequence[str] = (),
    beside: Mapping[str, Any] | None = None,
) -> Response:
    """An answer with data; with members `beside` them where clients look for them there too."""
    text = _envelope(_text(payload), "null", warnings)
    if beside:
        text = f"{text[:-1]},{_text(beside)[1:]}"
    return Response(status, text.encode())


def bare_data(raw: Raw) -> Response:
    """An answer whose data are one text."""
    return Response(200, _envelope(raw.text, "null", ()).encode())


def keys(names: Sequence[str], **more: Any) -> Response:
    """A list of names."""
    return data({"keys": list(names), **more})


def auth(payload: Mapping[str, Any], warnings: Sequence[str] = ()) -> Response:
    """An answer to a login."""
    return Response(200, _envelope("null", _text(payload), warnings).encode())


def wrapped(token: str, accessor: str, ttl: int, created: str, path: str) -> Response:
    """An answer that says where another one is kept."""
    told = {"token": token, "accessor": accessor, "ttl": ttl, "creation_time": created, "creation_path": path}
    return Response(200, _envelope("null", "null", (), _text(told)).encode())


def moment(value: Any) -> str:
    """A point in time (RFC 3339); the empty string for none."""
    return value.ToJsonString() if microseconds(value) else ""


def _envelope(inner: str, login: str, warnings: Sequence[str], wrapping: str = "null") -> str:
    told = json.dumps(list(warnings)) if warnings else "null"
    return (
        f'{{"request_id":"{_request_id()}","lease_id":"","renewable":false,"lease_duration":0,"data":{inner},'
        f'"wrap_info":{wrapping},"warnings":{told},"auth":{login}}}'
    )


def _request_id() -> str:
    """The trace's id, in the form that Vault's have: by it the call is found in the audit log."""
    context = telemetry.current()
    digits = context.trace_id if context is not None else "0" * 32
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _text(value: Any) -> str:
    """JSON of a value with raw parts in it, which are few and near the top."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, Mapping) and any(isinstance(member, Raw | Mapping) for member in value.values()):
        return "{" + ",".join(f"{json.dumps(name)}:{_text(member)}" for name, member in value.items()) + "}"
    return json.dumps(value, separators=(",", ":"))


def _refuse(name: str) -> Any:
    raise ValueError(name)
