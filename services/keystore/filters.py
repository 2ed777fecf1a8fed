"""Filters of keystore's lists, as conditions in SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import JSON, ColumnElement, and_, cast, func, type_coerce

from services.keystore.tables import aliases, key_versions, keys
from services.runtime import filters, names
from services.runtime.errors import invalid
from services.runtime.filters import Term
from strongroom.keystore.v1 import key_pb2 as k

Condition = Callable[[str], ColumnElement[bool]]
"""Gets the database's dialect."""


def of_keys(text: str) -> list[Condition]:
    """The conditions of a list of keys. Raises FIELD_INVALID."""
    return [_condition(term, _KEY_FIELDS) for term in filters.parse(text, _KEY_FIELDS, ("tags",))]


def of_versions(text: str) -> list[Condition]:
    """The conditions of a list of versions. Raises FIELD_INVALID."""
    return [_condition(term, _VERSION_FIELDS) for term in filters.parse(text, _VERSION_FIELDS)]


def of_aliases(text: str) -> list[Condition]:
    """The conditions of a list of aliases. Raises FIELD_INVALID, NAME_MALFORMED."""
    return [_condition(term, _ALIAS_FIELDS) for term in filters.parse(text, _ALIAS_FIELDS)]


def _condition(term: Term, fields: Mapping[str, Callable[[str], ColumnElement[bool]]]) -> Condition:
    if term.field == "tags":
        return lambda dialect: _tag(term, dialect)
    condition = fields[term.field](term.value)
    return lambda _dialect: condition


def _tag(term: Term, dialect: str) -> ColumnElement[bool]:
    # The column is text: PostgreSQL wants it cast, SQLite reads JSON from text as it is.
    tags: Any = cast(keys.c.tags, JSON) if dialect == "postgresql" else type_coerce(keys.c.tags, JSON)
    found: ColumnElement[bool] = tags[term.key].as_string() == term.value
    return found


def _enum(column: ColumnElement[int], enum: Any, prefix: str, field: str) -> Callable[[str], ColumnElement[bool]]:
    def condition(value: str) -> ColumnElement[bool]:
        if prefix + value not in list(enum.keys()):
            raise invalid("filter", f"gives {field} the value {value}, which it does not have")
        number: int = enum.Value(prefix + value)
        return column == number

    return condition


def _prefix(column: ColumnElement[str]) -> Callable[[str], ColumnElement[bool]]:
    def condition(value: str) -> ColumnElement[bool]:
        begins: ColumnElement[bool] = func.substr(column, 1, len(value)) == value
        return begins

    return condition


def _alias_of(value: str) -> ColumnElement[bool]:
    name = names.parse(value, "filter", "keys")
    return and_(keys.c.account == name.account, keys.c.key_id == name.id)


_KEY_FIELDS: Mapping[str, Callable[[str], ColumnElement[bool]]] = {
    "state": _enum(keys.c.state, k.KeyState, "KEY_STATE_", "state"),
    "spec": _enum(keys.c.spec, k.KeySpec, "KEY_SPEC_", "spec"),
    "usage": _enum(keys.c.usage, k.KeyUsage, "KEY_USAGE_", "usage"),
    "protection_level": _enum(keys.c.protection_level, k.ProtectionLevel, "PROTECTION_LEVEL_", "protection_level"),
    "origin": _enum(keys.c.origin, k.KeyOrigin, "KEY_ORIGIN_", "origin"),
    "id_prefix": _prefix(keys.c.key_id),
}
_VERSION_FIELDS: Mapping[str, Callable[[str], ColumnElement[bool]]] = {
    "state": _enum(key_versions.c.state, k.KeyVersionState, "KEY_VERSION_STATE_", "state"),
    "origin": _enum(key_versions.c.origin, k.KeyVersionOrigin, "KEY_VERSION_ORIGIN_", "origin"),
}
_ALIAS_FIELDS: Mapping[str, Callable[[str], ColumnElement[bool]]] = {
    "key": _alias_of,
    "id_prefix": _prefix(aliases.c.alias_id),
}
