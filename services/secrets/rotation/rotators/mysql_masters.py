"""What a master of MySQL or MariaDB may do and give, by itself and by the roles that its logins take."""

from __future__ import annotations

from dataclasses import dataclass

from services.runtime.errors import Reason
from services.secrets.rotation.rotators.mysql_grants import Catalog, Rights
from services.secrets.rotation.rotators.mysql_passwords import Account, Execute, ServerError
from services.secrets.rotation.rotators.mysql_scopes import Scopes

_GRANTABLE = "GRANT OPTION"
_CREATES_USERS = ("CREATE USER", "*.*")
# MySQL's own; MariaDB asks for the ADMIN OPTION of whoever it is.
_GIVES_ROLES, _SUPER = "ROLE_ADMIN", ("SUPER", "*.*")
# MariaDB's information_schema has no privilege that a role has on everything.
_OF_COLUMN = {
    "Create_tmp_table": "CREATE TEMPORARY TABLES",
    "Grant": _GRANTABLE,
    "Repl_client": "BINLOG MONITOR",
    "Repl_slave": "REPLICATION SLAVE",
    "Show_db": "SHOW DATABASES",
}
_COLUMNS = (
    *("Select", "Insert", "Update", "Delete", "Create", "Drop", "Reload", "Shutdown", "Process", "File", "Grant"),
    *("References", "Index", "Alter", "Show_db", "Super", "Create_tmp_table", "Lock_tables", "Execute", "Repl_slave"),
    *("Repl_client", "Create_view", "Show_view", "Create_routine", "Alter_routine", "Create_user", "Event", "Trigger"),
    *("Create_tablespace", "Delete_history"),
)


def _word(column: str) -> str:
    return _OF_COLUMN.get(column, column.replace("_", " ").upper())


_SEEN = frozenset(map(_word, _COLUMNS))
"""Of a role that is taken; whether it has others on everything, such as CONNECTION ADMIN, is not known."""


@dataclass(frozen=True, slots=True)
class Master:
    """What is known of a master's rights."""

    privileges: frozenset[tuple[str, str]]
    dynamic: frozenset[tuple[str, bool]]
    proxies: frozenset[tuple[str, ...]]
    admin_roles: frozenset[str]
    """The roles that it may give."""
    is_maria: bool
    takes_roles: bool
    holders: tuple[Scopes, ...]
    """Its own rights and those of each role that it takes: of the databases that one names, the closest counts."""

    @property
    def may_make_users(self) -> bool:
        """Whether it may make users and change their passwords. MariaDB's may also be changed by who may write its
        tables."""
        by_tables = {("UPDATE", "*.*"), ("UPDATE", "`mysql`.*")}
        return _CREATES_USERS in self.privileges or bool(by_tables & self.privileges)

    def cannot_give(self, first: Rights) -> str:
        """Why it cannot give what a user has, which both servers let nobody give who has not got it; empty where it
        can."""
        if any(not self._holds(_GRANTABLE, where) for _, where in first.privileges):
            return "the master has no GRANT OPTION for what the first user has"
        if any(not self._holds(privilege, where) for privilege, where in first.privileges):
            return "the master has not got itself what the first user has, and cannot give it"
        if any((privilege, True) not in self.dynamic for privilege, _ in first.dynamic):
            return "the master may not give on a privilege that the first user has on everything"
        if any(not self._may_give_proxy(user, host) for user, host, _ in first.proxies):
            return "the master may not give PROXY on an account that the first user may be"
        gives_all = not self.is_maria and (
            _SUPER in self.privileges or any(one == _GIVES_ROLES for one, _ in self.dynamic)
        )
        if not gives_all and {role for role, _ in first.roles} - self.admin_roles:
            return "the master has no ADMIN OPTION for a role that the first user has"
        return ""

    def _may_give_proxy(self, user: str, host: str) -> bool:
        return any((*whom, "1") in self.proxies for whom in ((user, host), ("", "")))

    def _holds(self, privilege: str, where: str) -> bool:
        """At whatever level: what is held at several counts together."""
        if self.takes_roles and where == "*.*" and self.is_maria and privilege not in _SEEN:
            return True
        whole = privilege.partition(" (")[0]
        return any(holder.has(one, where) for one in (privilege, whole) for holder in self.holders)


def master_of(catalog: Catalog, execute: Execute) -> Master | None:
    """Whoever has logged in; None where it cannot be known what it may do."""
    ((name,),) = execute("SELECT CURRENT_USER()")
    user, _, host = name.rpartition("@")
    own = catalog.rights(Account(user, host))
    if own is None:
        return None
    holders, roles, dynamic = [set(own.privileges)], set(own.roles), set(own.dynamic)
    host_of_role = "''" if catalog.is_maria else "ROLE_HOST"
    try:
        enabled = execute(
            f"SELECT ROLE_NAME, {host_of_role} FROM information_schema.ENABLED_ROLES WHERE ROLE_NAME IS NOT NULL"  # noqa: S608  # constants
        )
    except ServerError as error:
        if error.reason is not Reason.TARGET_CHANGE_REFUSED:
            raise
        # MySQL's first releases that have roles do not list them.
        ((roles_taken,),) = execute("SELECT CURRENT_ROLE()")
        if roles_taken != "NONE":
            return None
        enabled = ()
    for role, role_host in enabled:
        found = catalog.rights(Account(role, role_host))
        if found is None:
            return None
        holders.append(set(found.privileges) | (_on_everything(execute, role) if catalog.is_maria else set()))
        roles |= found.roles
        dynamic |= found.dynamic
    admin_roles = frozenset(role for role, may_give in roles if may_give)
    literal = _names_are_literal(catalog, execute)
    scopes = tuple(Scopes(frozenset(holder), literal=literal) for holder in holders)
    given = frozenset(one for holder in holders for one in holder), frozenset(dynamic), own.proxies
    return Master(*given, admin_roles, catalog.is_maria, bool(enabled), scopes)


def _names_are_literal(catalog: Catalog, execute: Execute) -> bool:
    """Whether `%` and `_` in the name of a database that rights are for stand for themselves."""
    if catalog.is_maria:
        return False
    return any(value == "ON" for _, value in execute("SHOW GLOBAL VARIABLES LIKE 'partial_revokes'"))


def _on_everything(execute: Execute, role: str) -> set[tuple[str, str]]:
    columns = ", ".join(f"{column}_priv" for column in _COLUMNS)
    rows = execute(f"SELECT {columns} FROM mysql.user WHERE User = %s AND Host = ''", role)  # noqa: S608  # constants
    return {(_word(column), "*.*") for row in rows for column, given in zip(_COLUMNS, row, strict=True) if given == "Y"}
