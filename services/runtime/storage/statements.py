"""Statements that are made once. To make one of many columns takes SQLAlchemy longer than to run it: a statement that
stands is run with the values of the moment as its parameters."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Table, Update, and_, bindparam, update

_OF = "of_"


def of(table: Table, *keys: str) -> ColumnElement[bool]:
    """Of the rows that have the values of `named` in these columns."""
    return and_(*(table.c[key] == bindparam(_OF + key) for key in keys))


def change(table: Table, *keys: str) -> Update:
    """Changes the rows that have the values of `named` in these columns: each other parameter is what the column of its
    name is to have."""
    return update(table).where(of(table, *keys))


def named(**values: object) -> dict[str, object]:
    """Parameters that say which rows."""
    return {_OF + key: value for key, value in values.items()}
