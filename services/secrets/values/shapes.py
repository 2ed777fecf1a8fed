"""What the values of a type with a target look like: JSON with the type's fields, each of which is checked.

A value goes into connection strings, protocols and files of other systems, where a NUL or a line break would begin
something else. It is checked when it is put, when it is made, and again before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.runtime.errors import invalid
from services.runtime.sensitive import SensitiveBytes
from services.secrets.values.json_fields import Number, ambiguity_of, json_object, with_members
from strongroom.secrets.v1.secret_pb2 import (
    SECRET_TYPE_CLIENT_KEY,
    SECRET_TYPE_MYSQL,
    SECRET_TYPE_POSTGRESQL,
    SECRET_TYPE_REDIS_ACL,
    SECRET_TYPE_SSH_KEY_PAIR,
    SecretType,
)


@dataclass(frozen=True, slots=True)
class _Text:
    """A member that a rotation cannot do without."""

    most_bytes: int
    may_have: str = ""
    """Control characters that it may have in it."""


_USERNAME, _PASSWORD = _Text(256), _Text(4096)
_LOGIN = {"username": _USERNAME, "password": _PASSWORD}
_REQUIRED: Mapping[SecretType.ValueType, Mapping[str, _Text]] = {
    SECRET_TYPE_POSTGRESQL: _LOGIN,
    SECRET_TYPE_MYSQL: _LOGIN,
    SECRET_TYPE_REDIS_ACL: _LOGIN,
    SECRET_TYPE_SSH_KEY_PAIR: {
        "username": _USERNAME,
        "private_key": _Text(16_384, may_have="\r\n"),
        "public_key": _Text(16_384),
    },
    SECRET_TYPE_CLIENT_KEY: {"client_key": _Text(256), "secret": _Text(256)},
}
# For who reads the value; a rotation takes the target's own.
_OPTIONAL = {"engine": _Text(64), "host": _Text(255), "database": _Text(255)}
_MAX_PORT = 65_535


def check_shape(kind: SecretType.ValueType, value: SensitiveBytes, field: str = "value") -> None:
    """Raises FIELD_INVALID, naming the member and no part of the value, unless it has the fields of its type."""
    if kind not in _REQUIRED:
        return
    check_texts(kind, value, field)
    doubt = ambiguity_of(value)
    if doubt:
        # A rotation keeps what it does not change, and readers would take it for different things.
        raise invalid(field, doubt)


def check_texts(kind: SecretType.ValueType, value: SensitiveBytes, field: str) -> None:
    """The same of the members alone, for a value that is kept already and about to be used."""
    members = _REQUIRED.get(kind)
    if members is not None:
        _check_members(members, value, field)


def check_login(value: SensitiveBytes, field: str) -> None:
    """The same for a login of any type of secret, such as a master's."""
    _check_members(_LOGIN, value, field)


def is_plain(text: str, may_have: str = "") -> bool:
    """Whether a text can be encoded and has no control character in it but these."""
    return (text.isascii() and text.isprintable()) or not any(_is_odd(c) and c not in may_have for c in text)


def as_value(content: Mapping[str, Any]) -> SensitiveBytes:
    """A value of JSON fields."""
    return with_members(SensitiveBytes(b"{}"), content)


def _check_members(members: Mapping[str, _Text], value: SensitiveBytes, field: str) -> None:
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


def _check_text(name: str, member: Any, text: _Text, field: str) -> None:
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


def _is_odd(character: str) -> bool:
    code = ord(character)
    # Controls of ASCII and Latin-1, line and paragraph separators, and halves of characters.
    return code < 0x20 or 0x7F <= code < 0xA0 or code in (0x2028, 0x2029) or 0xD800 <= code < 0xE000
