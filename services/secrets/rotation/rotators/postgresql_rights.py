"""The second of two users of PostgreSQL: what makes it equal to the first, and what it still lacks.

It is a member of the first user's role and takes that role at login, so that privileges, memberships, what is made and
what is owned are the first user's. What PostgreSQL takes from the user that logs in, and not from the role that it
takes then, is copied: settings, connection limit, end of validity, replication.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

_ROLE = "role"
_MEMBERSHIP_OPTIONS = 160000  # The first version that has them.
# What a user would have beside the role that it takes.
_OWN_POWERS = ("rolsuper", "rolcreaterole", "rolcreatedb", "rolbypassrls")

# Settings that pg_dump, too, knows to be lists of names (GUC_LIST_QUOTE).
_LISTS = frozenset(
    (
        *("local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries"),
        *("temp_tablespaces", "unix_socket_directories"),
    )
)
_NAME = re.compile(r'"((?:[^"]|"")+)"|([^",\s]+)')


class FirstUserAbsentError(Exception):
    """The server has no such user as the target's first."""


@dataclass(frozen=True, slots=True)
class _Login:
    """What counts of the user that logs in."""

    connections: int
    valid_until: str
    replicates: bool
    powers: frozenset[str]
    settings: Mapping[tuple[str, str], str]
    """By database (empty for all) and name."""


_NOBODY = _Login(-1, "", replicates=False, powers=frozenset(), settings={})


def make_equal(connection: psycopg.Connection[Any], first: str, second: str) -> None:
    """Makes the second user where it is absent, and equal to the first. Commits nothing."""
    if _login(connection, second) is None:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(second)))
    if not _may_take(connection, first, second):
        _let_take(connection, first, second)
    wanted, found = _wanted(connection, first), _login(connection, second) or _NOBODY
    for (database, name), value in wanted.settings.items():
        if found.settings.get((database, name)) != value:
            _set(connection, second, database, name, value)
    for database, name in found.settings.keys() - wanted.settings.keys():
        _set(connection, second, database, name, None)
    changes: list[sql.Composable] = []
    if found.connections != wanted.connections:
        changes.append(sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(wanted.connections)))
    if found.valid_until != wanted.valid_until:
        changes.append(sql.SQL("VALID UNTIL {}").format(sql.Literal(wanted.valid_until or "infinity")))
    if found.replicates != wanted.replicates:
        changes.append(sql.SQL("REPLICATION" if wanted.replicates else "NOREPLICATION"))
    if changes:
        statement = sql.SQL("ALTER ROLE {} WITH {}")
        connection.execute(statement.format(sql.Identifier(second), sql.SQL(" ").join(changes)))


def differences(connection: psycopg.Connection[Any], first: str, second: str) -> Sequence[str]:
    """What the second user has otherwise than the first, in words of ours. Any user may ask."""
    wanted, found = _wanted(connection, first), _login(connection, second)
    if found is None:
        return ["it is not there"]
    told = []
    if not _may_take(connection, first, second):
        told.append("it may not take the first user's role (membership with SET and INHERIT)")
    at_login = {key for key, _ in wanted.settings.items() ^ found.settings.items()}
    if any(name == _ROLE for _, name in at_login):
        told.append("it does not take the first user's role at login (its setting `role`)")
    if any(name != _ROLE for _, name in at_login):
        told.append("its settings")
    for what, one, other in (
        ("its connection limit", wanted.connections, found.connections),
        ("until when it is valid", wanted.valid_until, found.valid_until),
        ("REPLICATION", wanted.replicates, found.replicates),
    ):
        if one != other:
            told.append(what)
    if found.powers - wanted.powers:
        told.append("it has attributes of its own, such as SUPERUSER, that the first user has not")
    return told


def _wanted(connection: psycopg.Connection[Any], first: str) -> _Login:
    found = _login(connection, first)
    if found is None:
        raise FirstUserAbsentError
    return replace(found, settings={("", _ROLE): first, **found.settings})


def _login(connection: psycopg.Connection[Any], user: str) -> _Login | None:
    row = connection.execute(
        "SELECT oid, rolconnlimit, coalesce(nullif(rolvaliduntil, 'infinity')::text, ''), rolreplication,"
        " rolsuper, rolcreaterole, rolcreatedb, rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = %s",
        [user],
    ).fetchone()
    if row is None:
        return None
    oid, connections, valid_until, replicates, *powers = row
    settings = {}
    for database, entries in connection.execute(
        "SELECT coalesce(d.datname, ''), s.setconfig FROM pg_catalog.pg_db_role_setting s"
        " LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase WHERE s.setrole = %s",
        [oid],
    ):
        for entry in entries:
            name, _, value = entry.partition("=")
            settings[database, name] = value
    return _Login(
        connections,
        valid_until,
        replicates,
        frozenset(power for power, has in zip(_OWN_POWERS, powers, strict=True) if has),
        settings,
    )


def _may_take(connection: psycopg.Connection[Any], first: str, second: str) -> bool:
    """Whether the second user is a member of the first's role, and may take and inherit it."""
    has_options = connection.info.server_version >= _MEMBERSHIP_OPTIONS
    # Only a grant to itself: one by way of a third role, or of a superuser, may be taken away unseen.
    options = " AND m.set_option AND m.inherit_option" if has_options else ""
    found = connection.execute(
        "SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles f ON f.oid = m.roleid"
        f" JOIN pg_catalog.pg_roles s ON s.oid = m.member WHERE f.rolname = %s AND s.rolname = %s{options}",
        [first, second],
    )
    return found.fetchone() is not None


def _let_take(connection: psycopg.Connection[Any], first: str, second: str) -> None:
    has_options = connection.info.server_version >= _MEMBERSHIP_OPTIONS
    form = sql.SQL("GRANT {} TO {} WITH INHERIT TRUE, SET TRUE" if has_options else "GRANT {} TO {}")
    connection.execute(form.format(sql.Identifier(first), sql.Identifier(second)))


def _set(connection: psycopg.Connection[Any], user: str, database: str, name: str, value: str | None) -> None:
    where = sql.SQL(" IN DATABASE {}").format(sql.Identifier(database)) if database else sql.SQL("")
    # A name may be of a class of settings: `class.name`.
    setting = sql.Identifier(*name.split("."))
    if value is None:
        connection.execute(sql.SQL("ALTER ROLE {}{} RESET {}").format(sql.Identifier(user), where, setting))
        return
    wanted = _values(name, value)
    connection.execute(sql.SQL("ALTER ROLE {}{} SET {} TO {}").format(sql.Identifier(user), where, setting, wanted))


def _values(name: str, value: str) -> sql.Composable:
    """A setting's values in the form that SET takes: settings that are lists of names are kept as a text of quoted
    names."""
    if name not in _LISTS:
        return sql.Literal(value)
    return sql.SQL(", ").join(map(sql.Literal, _names(value))) if value.strip() else sql.Literal("")


def _names(value: str) -> list[str]:
    return [quoted.replace('""', '"') if quoted else bare for quoted, bare in _NAME.findall(value)]
