"""Terms of a filter as conditions in SQL, on either database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import JSON, Column, ColumnElement, cast, func, type_coerce

from services.runtime.errors import invalid
from services.runtime.requests import filters
from services.runtime.requests.filters import Term

Condition = Callable[[str], ColumnElement[bool]]
"""Gets the database's dialect."""
Field = Callable[[str], ColumnElement[bool]]
"""Gets the value that a field is compared with."""
Fields = Mapping[str, Field]


def conditions(text: str, fields: Fields, tags: Column[str] | None = None) -> list[Condition]:
    """The conditions of a filter over `fields`, and over tags where there is a column of them. Raises FIELD_INVALID."""
    terms = filters.parse(text, fields, ("tags",) if tags is not None else ())
    return [condition(term, fields, tags) for term in terms]


def condition(term: Term, fields: Fields, tags: Column[str] | None = None) -> Condition:
    """The condition of one term; `tags` is the column that `tags.<key>` looks into."""
    if term.field == "tags" and tags is not None:
        return lambda dialect: _tag(tags, term, dialect)
    found = fields[term.field](term.value)
    return lambda _dialect: found


def enum(column: ColumnElement[int], values: Any, prefix: str, field: str) -> Field:
    """A column that holds a number of the enum `values`, whose names begin with `prefix`. Raises FIELD_INVALID."""

    def equals(value: str) -> ColumnElement[bool]:
        if prefix + value not in list(values.keys()):
            raise invalid("filter", f"gives {field} the value {value}, which it does not have")
        number: int = values.Value(prefix + value)
        return column == number

    return equals


def begins_with(column: ColumnElement[str]) -> Field:
    """A column whose text begins with the value."""

    def begins(value: str) -> ColumnElement[bool]:
        found: ColumnElement[bool] = func.substr(column, 1, len(value)) == value
        return found

    return begins


def _tag(column: Column[str], term: Term, dialect: str) -> ColumnElement[bool]:
    # The column is text: PostgreSQL wants it cast, SQLite reads JSON from text as it is.
    tags: Any = cast(column, JSON) if dialect == "postgresql" else type_coerce(column, JSON)
    found: ColumnElement[bool] = tags[term.key].as_string() == term.value
    return found
