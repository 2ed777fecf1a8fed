"""What the values of a type with a target look like: JSON with the type's fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.runtime.errors import invalid
from services.runtime.sensitive import SensitiveBytes
from services.secrets.json_fields import ambiguity_of, json_object, with_members
from strongroom.secrets.v1.secret_pb2 import (
    SECRET_TYPE_CLIENT_KEY,
    SECRET_TYPE_MYSQL,
    SECRET_TYPE_POSTGRESQL,
    SECRET_TYPE_REDIS_ACL,
    SECRET_TYPE_SSH_KEY_PAIR,
    SecretType,
)

_LOGIN = ("username", "password")
# What a rotation cannot do without; host, port and the like are for who reads the value.
_REQUIRED: Mapping[SecretType.ValueType, tuple[str, ...]] = {
    SECRET_TYPE_POSTGRESQL: _LOGIN,
    SECRET_TYPE_MYSQL: _LOGIN,
    SECRET_TYPE_REDIS_ACL: _LOGIN,
    SECRET_TYPE_SSH_KEY_PAIR: ("username", "private_key", "public_key"),
    SECRET_TYPE_CLIENT_KEY: ("client_key", "secret"),
}


def check_shape(kind: SecretType.ValueType, value: SensitiveBytes, field: str = "value") -> None:
    """Raises FIELD_INVALID, naming no part of the value, unless it has the fields of its type."""
    required = _REQUIRED.get(kind)
    if required is None:
        return
    found = json_object(value)
    if found is None:
        raise invalid(field, "is not a JSON object, as the secret's type needs")
    doubt = ambiguity_of(value)
    if doubt:
        # A rotation keeps what it does not change, and readers would take it for different things.
        raise invalid(field, doubt)
    for name in required:
        if not isinstance(found.get(name), str) or not found[name]:
            raise invalid(field, f"has no text {name}, as the secret's type needs")


def as_value(content: Mapping[str, Any]) -> SensitiveBytes:
    """A value of JSON fields."""
    return with_members(SensitiveBytes(b"{}"), content)
