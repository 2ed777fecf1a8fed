"""Filters of lists: `field = value` terms joined by ` AND `, a small part of AIP-160."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from services.runtime.errors import StrongroomError, invalid

_MAX_TERMS = 10
_MAX_CHARACTERS = 4096
_WORD = r"[A-Za-z0-9_.-]+"
_QUOTED = r'"(?:[^"\\]|\\["\\])*"'
_TERM = re.compile(rf"\s*(?P<field>[a-z_]+)(?:\.(?P<key>{_WORD}|{_QUOTED}))?\s*=\s*(?P<value>{_WORD}|{_QUOTED})\s*")
_AND = re.compile(r"AND\s")


@dataclass(frozen=True, slots=True)
class Term:
    """One condition: `field = value`, or `field.key = value` where a field has keys."""

    field: str
    key: str
    value: str


def parse(text: str, fields: Collection[str], keyed: Collection[str] = ()) -> list[Term]:
    """The terms of a filter over `fields`, and over `keyed` ones, which need a key. An empty one has none.

    Raises FIELD_INVALID, saying where, for anything else, and beyond 10 terms or 4,096 characters.
    """
    if len(text) > _MAX_CHARACTERS:
        raise invalid("filter", f"has more than {_MAX_CHARACTERS} characters")
    terms: list[Term] = []
    position = 0
    while text[position:].strip():
        if terms:
            joined = _AND.match(text, position)
            if joined is None:
                raise _malformed(text, position)
            position = joined.end()
        found = _TERM.match(text, position)
        if found is None:
            raise _malformed(text, position)
        field, key = found["field"], found["key"]
        if field not in (keyed if key else fields):
            raise invalid("filter", f"names the field {field + ('.' + key if key else '')}, which it does not have")
        terms.append(Term(field, _unquoted(key or ""), _unquoted(found["value"])))
        position = found.end()
    if len(terms) > _MAX_TERMS:
        raise invalid("filter", f"has more than {_MAX_TERMS} terms")
    return terms


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def _malformed(text: str, position: int) -> StrongroomError:
    rest = text[position:].strip()[:20]
    return invalid("filter", f"is not `field = value` terms joined by AND, from character {position + 1}: {rest}")
