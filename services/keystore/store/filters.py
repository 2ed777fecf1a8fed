"""Filters of keystore's lists, as conditions in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_

from services.keystore.store.tables import aliases, key_versions, keys
from services.runtime.requests import filters, names
from services.runtime.storage.sql_filters import Condition, Fields, begins_with, condition, conditions, enum
from strongroom.keystore.v1 import key_pb2 as k


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """Which keys are listed: those that meet the conditions and have the tags."""

    conditions: Sequence[Condition] = ()
    tags: Sequence[tuple[str, str]] = ()


def of_keys(text: str) -> KeyFilter:
    """The filter of a list of keys. Raises FIELD_INVALID."""
    terms = filters.parse(text, _KEY_FIELDS, ("tags",))
    return KeyFilter(
        [condition(term, _KEY_FIELDS) for term in terms if term.field != "tags"],
        [(term.key, term.value) for term in terms if term.field == "tags"],
    )


def of_versions(text: str) -> list[Condition]:
    """The conditions of a list of versions. Raises FIELD_INVALID."""
    return conditions(text, _VERSION_FIELDS)


def of_aliases(text: str) -> list[Condition]:
    """The conditions of a list of aliases. Raises FIELD_INVALID, NAME_MALFORMED."""
    return conditions(text, _ALIAS_FIELDS)


def _alias_of(value: str) -> ColumnElement[bool]:
    name = names.parse(value, "filter", "keys")
    return and_(keys.c.account == name.account, keys.c.key_id == name.id)


_KEY_FIELDS: Fields = {
    "state": enum(keys.c.state, k.KeyState, "KEY_STATE_", "state"),
    "spec": enum(keys.c.spec, k.KeySpec, "KEY_SPEC_", "spec"),
    "usage": enum(keys.c.usage, k.KeyUsage, "KEY_USAGE_", "usage"),
    "protection_level": enum(keys.c.protection_level, k.ProtectionLevel, "PROTECTION_LEVEL_", "protection_level"),
    "origin": enum(keys.c.origin, k.KeyOrigin, "KEY_ORIGIN_", "origin"),
    "id_prefix": begins_with(keys.c.key_id),
}
_VERSION_FIELDS: Fields = {
    "state": enum(key_versions.c.state, k.KeyVersionState, "KEY_VERSION_STATE_", "state"),
    "origin": enum(key_versions.c.origin, k.KeyVersionOrigin, "KEY_VERSION_ORIGIN_", "origin"),
}
_ALIAS_FIELDS: Fields = {
    "key": _alias_of,
    "id_prefix": begins_with(aliases.c.alias_id),
}
