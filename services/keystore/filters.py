"""Filters of keystore's lists, as conditions in SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import JSON, ColumnElement, and_, cast, func, type_coerce

from services.keystore.tables import aliases, key_versions, keys
from services.runtime import filters, names
from services.runtime.errors import invalid
from services.runtime.filters import Term
from strongroom.keystore.v1 import key_pb2 as k

Condition = Callable[[str], ColumnElement[bool]]
"""Gets the database's dialect."""
Fields = Mapping[str, Callable[[str], ColumnElement[bool]]]
"""What each field of a filter asks of a row, given its value."""


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """Which keys are listed: those that meet the conditions and have the tags."""

    conditions: Sequence[Condition] = ()
    tags: Sequence[tuple[str, str]] = ()


def of_keys(text: str) -> KeyFilter:
    """The filter of a list of keys. Raises FIELD_INVALID."""
    terms = filters.parse(text, _KEY_FIELDS, ("tags",))
    return KeyFilter(
        [_condition(term, _KEY_FIELDS, None) for term in terms if term.field != "tags"],
        [(term.key, term.value) for term in terms if term.field == "tags"],
    )


def of_versions(text: str) -> list[Condition]:
    """The conditions of a list of versions. Raises FIELD_INVALID."""
    return conditions(text, _VERSION_FIELDS)


def of_aliases(text: str) -> list[Condition]:
    """The conditions of a list of aliases. Raises FIELD_INVALID, NAME_MALFORMED."""
    return conditions(text, _ALIAS_FIELDS)


def conditions(text: str, fields: Fields, tags: ColumnElement[str] | None = None) -> list[Condition]:
    """The conditions of a filter over `fields`, and over tags where there is a column of them. Raises FIELD_INVALID."""
    terms = filters.parse(text, fields, ("tags",) if tags is not None else ())
    return [_condition(term, fields, tags) for term in terms]


def _condition(term: Term, fields: Fields, tags: ColumnElement[str] | None) -> Condition:
    if tags is not None and term.field == "tags":
        return partial(_tag, term, tags)
    condition = fields[term.field](term.value)
    return lambda _dialect: condition


def _tag(term: Term, column: ColumnElement[str], dialect: str) -> ColumnElement[bool]:
    # The column is text: PostgreSQL wants it cast, SQLite reads JSON from text as it is.
    tags: Any = cast(column, JSON) if dialect == "postgresql" else type_coerce(column, JSON)
    found: ColumnElement[bool] = tags[term.key].as_string() == term.value
    return found


def is_enum(column: ColumnElement[int], enum: Any, prefix: str, field: str) -> Callable[[str], ColumnElement[bool]]:
    """That a column has the value of a name without its prefix, which may raise FIELD_INVALID."""

    def condition(value: str) -> ColumnElement[bool]:
        if prefix + value not in list(enum.keys()):
            raise invalid("filter", f"gives {field} the value {value}, which it does not have")
        number: int = enum.Value(prefix + value)
        return column == number

    return condition


def begins_with(column: ColumnElement[str]) -> Callable[[str], ColumnElement[bool]]:
    """That a column begins with a value."""

    def condition(value: str) -> ColumnElement[bool]:
        begins: ColumnElement[bool] = func.substr(column, 1, len(value)) == value
        return begins

    return condition


def _alias_of(value: str) -> ColumnElement[bool]:
    name = names.parse(value, "filter", "keys")
    return and_(keys.c.account == name.account, keys.c.key_id == name.id)


_KEY_FIELDS: Fields = {
    "state": is_enum(keys.c.state, k.KeyState, "KEY_STATE_", "state"),
    "spec": is_enum(keys.c.spec, k.KeySpec, "KEY_SPEC_", "spec"),
    "usage": is_enum(keys.c.usage, k.KeyUsage, "KEY_USAGE_", "usage"),
    "protection_level": is_enum(keys.c.protection_level, k.ProtectionLevel, "PROTECTION_LEVEL_", "protection_level"),
    "origin": is_enum(keys.c.origin, k.KeyOrigin, "KEY_ORIGIN_", "origin"),
    "id_prefix": begins_with(keys.c.key_id),
}
_VERSION_FIELDS: Fields = {
    "state": is_enum(key_versions.c.state, k.KeyVersionState, "KEY_VERSION_STATE_", "state"),
    "origin": is_enum(key_versions.c.origin, k.KeyVersionOrigin, "KEY_VERSION_ORIGIN_", "origin"),
}
_ALIAS_FIELDS: Fields = {
    "key": _alias_of,
    "id_prefix": begins_with(aliases.c.alias_id),
}
