"""What a user of MySQL or MariaDB may do, read from the server's tables and given to another.

No statement that the server writes is taken apart: a database may be named `x" TO "y`. Names come as values of columns
and go out quoted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from services.runtime.errors import Reason, StrongroomError

Execute = Callable[..., Sequence[Sequence[Any]]]
"""Runs a statement with values and answers its rows."""

# Words of the server's grammar, as its tables name them.
_PRIVILEGE = re.compile(r"[A-Z][A-Z_ ]{1,63}")
_ROUTINE_TYPES = ("FUNCTION", "PROCEDURE", "PACKAGE", "PACKAGE BODY")
_NONE = "USAGE"
_GRANTABLE = "GRANT OPTION"


@dataclass(frozen=True, slots=True)
class Account:
    """A user with the host part of the account's name."""

    user: str
    host: str

    @property
    def grantee(self) -> str:
        """What information_schema calls it."""
        return f"'{self.user}'@'{self.host}'"


def copy_grants(execute: Execute, first: Account, second: Account) -> None:
    """Gives `second` every privilege and role of `first`. Raises TARGET_CHANGE_REFUSED, and what `execute` does."""
    if any(mark in part for account in (first, second) for part in (account.user, account.host) for mark in "'\\"):
        # information_schema does not quote them, so that another account could be meant.
        raise _refused("a user or host with a quote or backslash in it cannot take turns with another")
    for what, where, grantable in _privileges(execute, first):
        option = f" WITH {_GRANTABLE}" if grantable else ""
        execute(f"GRANT {what} ON {where} TO %s@%s{option}", second.user, second.host)
    _copy_roles(execute, first, second)


def _privileges(execute: Execute, account: Account) -> Iterator[tuple[str, str, bool]]:
    """Privilege, object, and whether it may be given on; every part ready to stand in a statement."""
    tables = (
        ("USER_PRIVILEGES", ()),
        ("SCHEMA_PRIVILEGES", ("TABLE_SCHEMA",)),
        ("TABLE_PRIVILEGES", ("TABLE_SCHEMA", "TABLE_NAME")),
        ("COLUMN_PRIVILEGES", ("TABLE_SCHEMA", "TABLE_NAME", "COLUMN_NAME")),
    )
    for table, named in tables:
        columns = ", ".join(("GRANTEE", "PRIVILEGE_TYPE", "IS_GRANTABLE", *named))
        # table and columns are the constants above
        for grantee, privilege, grantable, *names in execute(
            f"SELECT {columns} FROM information_schema.{table} WHERE GRANTEE = %s",  # noqa: S608
            account.grantee,
        ):
            # It compares without regard to case.
            if grantee == account.grantee and privilege != _NONE:
                of = f" ({_quoted(names[2])})" if len(names) == 3 else ""
                yield _privilege(privilege) + of, _object(names[:2]), grantable == "YES"
    yield from _routine_privileges(execute, account)


def _routine_privileges(execute: Execute, account: Account) -> Iterator[tuple[str, str, bool]]:
    rows = execute(
        "SELECT Db, Routine_name, Routine_type, Proc_priv FROM mysql.procs_priv WHERE User = %s AND Host = %s",
        account.user,
        account.host,
    )
    for database, routine, kind, given in rows:
        if kind not in _ROUTINE_TYPES:
            raise _refused("the server has a privilege on something that is not known")
        found = {privilege.strip().upper() for privilege in str(given).split(",")}
        for privilege in sorted(found - {"GRANT"}):
            yield _privilege(privilege), f"{kind} {_object((database, routine))}", "GRANT" in found


def _copy_roles(execute: Execute, first: Account, second: Account) -> None:
    if _is_maria(execute):
        roles = execute(
            "SELECT Role, Admin_option FROM mysql.roles_mapping WHERE User = %s AND Host = %s", first.user, first.host
        )
        for role, admin in roles:
            option = " WITH ADMIN OPTION" if admin == "Y" else ""
            execute(f"GRANT {_quoted(role)} TO %s@%s{option}", second.user, second.host)
        chosen = execute("SELECT default_role FROM mysql.user WHERE User = %s AND Host = %s", first.user, first.host)
        for (role,) in chosen:
            execute(f"SET DEFAULT ROLE {_quoted(role) if role else 'NONE'} FOR %s@%s", second.user, second.host)
        return
    roles = execute(
        "SELECT FROM_USER, FROM_HOST, WITH_ADMIN_OPTION FROM mysql.role_edges WHERE TO_USER = %s AND TO_HOST = %s",
        first.user,
        first.host,
    )
    for user, host, admin in roles:
        option = " WITH ADMIN OPTION" if admin == "Y" else ""
        execute(f"GRANT %s@%s TO %s@%s{option}", user, host, second.user, second.host)
    chosen = execute(
        "SELECT DEFAULT_ROLE_USER, DEFAULT_ROLE_HOST FROM mysql.default_roles WHERE USER = %s AND HOST = %s",
        first.user,
        first.host,
    )
    wanted = [part for role in chosen for part in role]
    names = ", ".join(["%s@%s"] * len(chosen)) or "NONE"
    execute(f"SET DEFAULT ROLE {names} TO %s@%s", *wanted, second.user, second.host)


def _is_maria(execute: Execute) -> bool:
    ((version,),) = execute("SELECT VERSION()")
    return "MariaDB" in version


def _object(names: Sequence[str]) -> str:
    if not names:
        return "*.*"
    quoted = [_quoted(name) for name in names]
    return ".".join(quoted if len(quoted) == 2 else [*quoted, "*"])


def _quoted(name: str) -> str:
    """An identifier. `%` would be taken for the place of a value."""
    return "`" + name.replace("`", "``").replace("%", "%%") + "`"


def _privilege(word: str) -> str:
    if not _PRIVILEGE.fullmatch(word):
        raise _refused("the server has a privilege with a name that is none")
    return word


def _refused(what: str) -> StrongroomError:
    return StrongroomError(Reason.TARGET_CHANGE_REFUSED, what, incurable="true")
