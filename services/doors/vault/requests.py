"""A request to a mount of the door: who asks, for what, with which parameters."""

from __future__ import annotations

import binascii
import math
import re
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from functools import cached_property
from typing import Any

from services.doors.listening import json_bodies
from services.doors.listening.exchange import Head
from services.doors.mesh.sessions import Caller
from services.doors.vault.errors import invalid, no_operation


class Operation(Enum):
    """What Vault makes of an HTTP method."""

    READ = "read"
    LIST = "list"
    WRITE = "update"
    PATCH = "patch"
    DELETE = "delete"


# As Go writes times, `1h30m0s` and `1.5s`, and days.
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ns|us|ms|s|m|h|d)")
_DURATION = re.compile(rf"[0-9]{{1,9}}|(?:{_PART.pattern}){{1,7}}")
_UNITS = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86_400),
}
# What Go reads as true.
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_OPERATIONS = {
    "GET": Operation.READ,
    "LIST": Operation.LIST,
    "POST": Operation.WRITE,
    "PUT": Operation.WRITE,
    "PATCH": Operation.PATCH,
    "DELETE": Operation.DELETE,
}


def operation_of(head: Head) -> Operation:
    """What a request asks for. Raises HttpError 405."""
    found = _OPERATIONS.get(head.method)
    if found is None:
        raise no_operation()
    return Operation.LIST if found is Operation.READ and head.query.get("list") in _TRUE else found


@dataclass
class Request:
    """What one caller asks of one mount."""

    caller: Caller
    operation: Operation
    path: tuple[str, ...]
    """Below the mount."""
    head: Head
    body: bytes = field(repr=False)

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The members of the body. Raises HttpError."""
        return json_bodies.parse(self.body)

    @cached_property
    def texts(self) -> dict[str, str]:
        """The members of the body, each as it is written. Raises HttpError."""
        self.parameters  # noqa: B018  # says what is wrong with it
        return dict(json_bodies.texts(self.body.decode())) if not json_bodies.is_nothing(self.body) else {}

    def text(self, name: str, default: str = "") -> str:
        """A parameter that is a text. Raises HttpError."""
        return text_in(self.parameters, name, default)

    def number(self, name: str, default: int = 0) -> int:
        """A parameter that is a whole number, or the text of one. Raises HttpError."""
        return number_in(self.parameters, name, default)

    def flag(self, name: str, default: bool = False) -> bool:
        """A parameter that is true or false, or the text of one. Raises HttpError."""
        value = self.parameters.get(name, default)
        if value in ("true", "false"):
            return bool(value == "true")
        if not isinstance(value, bool):
            raise invalid(f"{name} is neither true nor false")
        return value


def text_in(parameters: dict[str, Any], name: str, default: str = "") -> str:
    """A member that is a text. Raises HttpError."""
    value = parameters.get(name, default)
    if value is None:
        return default
    if not isinstance(value, str):
        raise invalid(f"{name} is no text")
    return value


def number_in(parameters: dict[str, Any], name: str, default: int = 0) -> int:
    """A member that is a whole number, or the text of one. Raises HttpError."""
    value = parameters.get(name, default)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 12:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise invalid(f"{name} is no whole number that is taken here")
    return value


def base64_in(parameters: dict[str, Any], name: str) -> bytes:
    """A member that is bytes in base64 (RFC 4648 §4). Raises HttpError."""
    value = parameters.get(name, "")
    if not isinstance(value, str):
        raise invalid(f"{name} is no text")
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except (binascii.Error, ValueError):
        raise invalid(f"failed to base64-decode {name}") from None


def seconds_of(value: Any) -> int:
    """A time as Vault takes it: seconds, or numbers with units (`720h`, `1h30m0s`); a part of a second counts as one.
    Raises HttpError."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31:
        return value
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise invalid("a time is a number of seconds, or numbers with ms, s, m, h or d, as 1h30m")
    if value.isdecimal():
        return int(value)
    return math.ceil(sum(Decimal(number) * _UNITS[unit] for number, unit in _PART.findall(value)))
