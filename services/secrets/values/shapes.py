"""Whether values are what their type of secret says: JSON with the type's members, each of which is checked.

A value goes into connection strings, protocols and files of other systems, where a NUL or a line break would begin
something else. It is checked when it is put, when it is made, and again before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.runtime.errors import invalid
from services.runtime.sensitive import SensitiveBytes
from services.secrets.kinds.known import declarations
from services.secrets.kinds.texts import LOGIN, Text, is_plain
from services.secrets.values.json_fields import ambiguity_of, json_object, with_members
from strongroom.json_texts import Number
from strongroom.secrets.v1.secret_pb2 import SecretType

# For who reads the value; a rotation takes the target's own.
_OPTIONAL = {"engine": Text(64), "host": Text(255), "database": Text(255)}
_MAX_PORT = 65_535


def check_shape(kind: SecretType.ValueType, value: SensitiveBytes, field: str = "value") -> None:
    """Raises FIELD_INVALID, naming the member and no part of the value, unless it has the fields of its type."""
    if not declarations()[kind].members:
        return
    check_texts(kind, value, field)
    doubt = ambiguity_of(value)
    if doubt:
        # A rotation keeps what it does not change, and readers would take it for different things.
        raise invalid(field, doubt)


def check_texts(kind: SecretType.ValueType, value: SensitiveBytes, field: str) -> None:
    """Checks the members alone, for a value that is kept already and about to be used. Raises FIELD_INVALID."""
    members = declarations()[kind].members
    if members:
        _check_members(members, value, field)


def check_login(value: SensitiveBytes, field: str) -> None:
    """Checks a login of any type of secret, such as a master's. Raises FIELD_INVALID."""
    _check_members(LOGIN, value, field)


def as_value(content: Mapping[str, Any]) -> SensitiveBytes:
    """A value of JSON fields."""
    return with_members(SensitiveBytes(b"{}"), content)


def _check_members(members: Mapping[str, Text], value: SensitiveBytes, field: str) -> None:
    found = json_object(value)
    if found is None:
        raise invalid(field, "is not a JSON object, as the secret's type needs")
    for name, text in members.items():
        if not isinstance(found.get(name), str) or not found[name]:
            raise invalid(field, f"has no text {name}, as the secret's type needs")
        _check_text(name, found[name], text, field)
    for name, text in _OPTIONAL.items():
        if found.get(name) is not None:
            _check_text(name, found[name], text, field)
    port = found.get("port")
    if port is not None and not _is_port(port):
        raise invalid(field, f"has a port that is not a number from 1 to {_MAX_PORT}")


def _check_text(name: str, member: Any, text: Text, field: str) -> None:
    if not isinstance(member, str):
        raise invalid(field, f"has a {name} that is no text")
    if not is_plain(member, text.may_have):
        raise invalid(field, f"has a control character, such as NUL or a line break, in its {name}")
    if len(member.encode()) > text.most_bytes:
        raise invalid(field, f"has a {name} of more than {text.most_bytes} bytes")


def _is_port(port: Any) -> bool:
    text = port.text if isinstance(port, Number) else port
    return (
        isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= _MAX_PORT
    )
