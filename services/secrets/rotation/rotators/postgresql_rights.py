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
_NAME = re.compile(r'"((?:[^"]|"")*)"|([^",\s]+)')


_ROLES_OF_ITS_OWN = """
SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles s ON s.oid = m.member
WHERE s.rolname = %(second)s AND NOT pg_catalog.pg_has_role(%(first)s::name, m.roleid, 'MEMBER')
"""
# What names the second user in its list of who may do what, or as its owner: found by an index, however much there is.
_NAMING_IT = """
SELECT d.classid, d.objid, d.objsubid, d.deptype, s.oid AS its_oid FROM pg_catalog.pg_shdepend d
JOIN pg_catalog.pg_roles s ON s.oid = d.refobjid
WHERE s.rolname = %(second)s AND d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
AND d.dbid IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
"""
_WITH_LISTS = (
    *(("pg_class", "relacl", "relowner"), ("pg_proc", "proacl", "proowner"), ("pg_type", "typacl", "typowner")),
    *(
        ("pg_namespace", "nspacl", "nspowner"),
        ("pg_database", "datacl", "datdba"),
        ("pg_language", "lanacl", "lanowner"),
    ),
    *(("pg_tablespace", "spcacl", "spcowner"), ("pg_foreign_server", "srvacl", "srvowner")),
    ("pg_foreign_data_wrapper", "fdwacl", "fdwowner"),
)
_LISTS_NAMING_IT = " UNION ALL ".join(
    [
        *(
            f"SELECT {acl} AS acl, {owner} AS owner, it.its_oid FROM it JOIN pg_catalog.{table} o ON o.oid = it.objid"  # noqa: S608
            f" AND it.classid = 'pg_catalog.{table}'::pg_catalog.regclass"
            for table, acl, owner in _WITH_LISTS
        ),
        # What counts for a table counts for its columns.
        (
            "SELECT c.relacl || a.attacl, c.relowner, it.its_oid FROM it JOIN pg_catalog.pg_class c ON c.oid = it.objid"
            " AND it.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
            " JOIN pg_catalog.pg_attribute a ON a.attrelid = it.objid AND a.attnum = it.objsubid"
        ),
        (
            "SELECT lomacl, lomowner, it.its_oid FROM it JOIN pg_catalog.pg_largeobject_metadata o ON o.oid = it.objid"
            " AND it.classid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass"
        ),
    ]
)
_PRIVILEGES_OF_ITS_OWN = f"""
WITH it AS ({_NAMING_IT})
SELECT DISTINCT its.privilege_type FROM ({_LISTS_NAMING_IT}) one, pg_catalog.aclexplode(one.acl) its
WHERE its.grantee = one.its_oid AND NOT pg_catalog.pg_has_role(%(first)s::name, one.owner, 'USAGE') AND NOT EXISTS (
  SELECT FROM pg_catalog.aclexplode(one.acl) other WHERE other.privilege_type = its.privilege_type
  AND other.is_grantable >= its.is_grantable
  AND (other.grantee = 0 OR pg_catalog.pg_has_role(%(first)s::name, other.grantee, 'USAGE'))
)
"""  # noqa: S608  # constants
# Nobody misses a temporary table.
_OWNS = f"""
SELECT FROM ({_NAMING_IT}) it WHERE it.deptype = 'o'
AND NOT pg_catalog.pg_has_role(%(first)s::name, it.its_oid, 'USAGE') AND NOT EXISTS (
  SELECT FROM pg_catalog.pg_class c WHERE c.oid = it.objid AND it.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
  AND c.relpersistence = 't'
)
"""  # noqa: S608  # constants


class FirstUserAbsentError(Exception):
    """The server has no such user as the target's first."""


@dataclass(frozen=True, slots=True)
class _Login:
    """What counts of the user that logs in."""

    connections: int
    valid_until: str
    replicates: bool
    logs_in: bool
    powers: frozenset[str]
    settings: Mapping[tuple[str, str], str]
    """By database (empty for all) and name."""


_NOBODY = _Login(-1, "", replicates=False, logs_in=True, powers=frozenset(), settings={})


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


def may_log_in(connection: psycopg.Connection[Any], user: str) -> bool:
    """Whether a user that is there may."""
    found = _login(connection, user)
    return found is None or found.logs_in


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
        # Who took it from one has locked its programs out, which would come in again as the other.
        ("LOGIN", wanted.logs_in, found.logs_in),
    ):
        if one != other:
            told.append(what)
    if found.powers - wanted.powers:
        told.append("it has attributes of its own, such as SUPERUSER, that the first user has not")
    return told + besides(connection, first, second)


def besides(connection: psycopg.Connection[Any], first: str, second: str) -> list[str]:
    """What the second user has that does not come by way of the first, and the first has not, in words of ours: as far
    as shows in the database that the connection is to. Any user may ask."""
    users = {"first": first, "second": second}
    # A row without a column is there, and empty.
    in_roles, owns = (connection.execute(one, users).fetchone() is not None for one in (_ROLES_OF_ITS_OWN, _OWNS))
    told = ["it is a member of a role that the first user is no member of"] if in_roles else []
    privileges = sorted({privilege for (privilege,) in connection.execute(_PRIVILEGES_OF_ITS_OWN, users)})
    if privileges:
        told.append(f"it has privileges of its own that the first user has not ({', '.join(privileges)})")
    if owns:
        told.append("it owns something, which REASSIGN OWNED gives to the first user")
    return told


def _wanted(connection: psycopg.Connection[Any], first: str) -> _Login:
    found = _login(connection, first)
    if found is None:
        raise FirstUserAbsentError
    return replace(found, settings={("", _ROLE): first, **found.settings})


def _login(connection: psycopg.Connection[Any], user: str) -> _Login | None:
    row = connection.execute(
        "SELECT oid, rolconnlimit, coalesce(nullif(rolvaliduntil, 'infinity')::text, ''), rolreplication,"
        " rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = %s",
        [user],
    ).fetchone()
    if row is None:
        return None
    oid, connections, valid_until, replicates, logs_in, *powers = row
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
        logs_in,
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
    # A name may be empty: so nobody's `search_path` is set.
    return [found[2] or (found[1] or "").replace('""', '"') for found in _NAME.finditer(value)]
