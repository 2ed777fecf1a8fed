"""What a user of MySQL or MariaDB may do and how it must log in: read from the server's tables, compared, and given to
another.

No statement that the server writes is taken apart: a database may be named `x" TO "y`. Names come as values of columns
and go out quoted. What is told of a difference are words of the server's grammar alone.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from services.runtime.errors import Reason, StrongroomError
from services.secrets.rotation.rotators.mysql_passwords import NATIVE, Account, Execute
from services.secrets.rotation.rotators.mysql_rules import Rules, rules_of_maria, rules_of_mysql
from services.secrets.rotation.rotators.mysql_rules import text as _text

# Words of the server's grammar, as its tables name them.
_PRIVILEGE = re.compile(r"[A-Z][A-Z_ ]{1,63}")
_ROUTINE_TYPES = ("FUNCTION", "PROCEDURE", "PACKAGE", "PACKAGE BODY")
_NONE = "USAGE"
_GRANTABLE = "GRANT OPTION"
_TOLD = frozenset(
    (
        *("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "RELOAD", "PROCESS", "FILE", "REFERENCES", "INDEX"),
        *("ALTER", "SUPER", "EXECUTE", "EVENT", "TRIGGER", "SHOW DATABASES", "LOCK TABLES", "CREATE VIEW", "SHOW VIEW"),
        *("CREATE TEMPORARY TABLES", "CREATE ROUTINE", "ALTER ROUTINE", "CREATE USER", "CREATE TABLESPACE", _GRANTABLE),
        *("DELETE HISTORY", "REPLICATION SLAVE", "REPLICATION CLIENT", "BINLOG MONITOR", "CREATE ROLE", "DROP ROLE"),
    )
)
_LIMITS = {
    "max_questions": "MAX_QUERIES_PER_HOUR",
    "max_updates": "MAX_UPDATES_PER_HOUR",
    "max_connections": "MAX_CONNECTIONS_PER_HOUR",
    "max_user_connections": "MAX_USER_CONNECTIONS",
}
# MariaDB's alone.
_MARIA_LIMITS = {**_LIMITS, "max_statement_time": "MAX_STATEMENT_TIME"}
_TLS = {"ssl_cipher": "CIPHER", "x509_issuer": "ISSUER", "x509_subject": "SUBJECT"}


@dataclass(frozen=True, slots=True)
class Rights:
    """All that an account has; what is a part of a statement is quoted already."""

    privileges: frozenset[tuple[str, str]]
    """Privilege, with its column, and object; the right to give on is one of them."""
    roles: frozenset[tuple[str, bool]]
    """With whether they may be given on."""
    default_roles: frozenset[str]
    proxies: frozenset[tuple[str, ...]]
    """Whom it may be: user and host, and whether that may be given on."""
    dynamic: frozenset[tuple[str, bool]] = frozenset()
    """Privileges that MySQL keeps by name: each has a right to give it on for itself."""
    login: Mapping[str, str] = field(default_factory=dict)
    """Requirements of TLS and limits, by column."""
    rules: Rules = field(default_factory=Rules)
    plugin: str = ""
    restrictions: str = ""
    """What MySQL takes out of global privileges (partial revokes)."""

    def lacks(self, other: Rights) -> list[str]:
        """What `other` has and this has not, in words that may be told."""
        told = sorted({_told(*privilege) for privilege in other.privileges - self.privileges})
        admin = {role for role, may_give in other.roles if may_give} - {
            role for role, may_give in self.roles if may_give
        }
        if {role for role, _ in other.roles} - {role for role, _ in self.roles}:
            told.append("a role")
        elif admin:
            told.append("the ADMIN OPTION of a role")
        if other.default_roles - self.default_roles:
            told.append("a default role")
        if other.dynamic - self.dynamic:
            told.append("a privilege on everything, or the right to give it on")
        if other.proxies - self.proxies:
            told.append("PROXY")
        return told

    def differs(self, other: Rights) -> list[str]:
        """How logins of the two are treated otherwise."""
        told = []
        if any(self.login.get(name) != other.login.get(name) for name in ("ssl_type", *_TLS)):
            told.append("what REQUIRE says of TLS")
        told += [word for name, word in _MARIA_LIMITS.items() if self.login.get(name) != other.login.get(name)]
        if self.plugin != other.plugin:
            told.append("the authentication plugin")
        if self.restrictions != other.restrictions:
            told.append("partial revokes")
        if self.rules.passwords != other.rules.passwords:
            told.append("what is asked of its passwords")
        if self.rules.is_locked != other.rules.is_locked:
            told.append("ACCOUNT LOCK")
        return told


class Catalog:
    """A server's tables of users, as a master reads them."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        ((version,),) = execute("SELECT VERSION()")
        self.is_maria = "MariaDB" in version

    def rights(self, account: Account) -> Rights | None:
        """What an account has; None where there is none. Raises TARGET_CHANGE_REFUSED where it cannot be known."""
        if any(mark in part for part in (account.user, account.host) for mark in "'\\"):
            # information_schema does not quote them, so that another account could be meant.
            raise _refused("a user or host with a quote or backslash in it cannot take turns with another")
        limits = _MARIA_LIMITS if self.is_maria else _LIMITS
        columns = ["plugin", "default_role" if self.is_maria else "''", "ssl_type", *_TLS, *limits]
        rows = self._execute(
            f"SELECT {', '.join(columns)} FROM mysql.user WHERE User = %s AND Host = %s",  # noqa: S608  # constants
            account.user,
            account.host,
        )
        if not rows:
            return None
        plugin, default_role, *login = map(_text, rows[0])
        dynamic = {} if self.is_maria else self._dynamic(account)
        return Rights(
            frozenset(self._privileges(account, dynamic)),
            frozenset(self._roles(account)),
            self._default_roles(account, default_role),
            self._proxies(account),
            frozenset(dynamic.items()),
            dict(zip(("ssl_type", *_TLS, *limits), login, strict=True)),
            self._rules(account),
            self._only_plugin(account, plugin),
            "" if self.is_maria else self._restrictions(account),
        )

    def hosts(self, user: str) -> list[str]:
        """The hosts of the accounts of this name."""
        return [_text(host) for (host,) in self._execute("SELECT Host FROM mysql.user WHERE User = %s", user)]

    def make_equal(self, wanted: Rights, found: Rights, account: Account) -> None:
        """Gives an account what it lacks, and takes what it has besides; the plugin comes with its password."""
        give, take = (
            _by_object(rights)
            for rights in (wanted.privileges - found.privileges, found.privileges - wanted.privileges)
        )
        for where, privileges in give.items():
            self._execute(f"GRANT {', '.join(privileges)} ON {where} TO %s@%s", account.user, account.host)
        for where, privileges in take.items():
            self._execute(f"REVOKE {', '.join(privileges)} ON {where} FROM %s@%s", account.user, account.host)
        for privilege, _ in found.dynamic - wanted.dynamic:
            self._execute(f"REVOKE {privilege} ON *.* FROM %s@%s", account.user, account.host)
        for privilege, may_give in wanted.dynamic - found.dynamic:
            option = " WITH GRANT OPTION" if may_give else ""
            self._execute(f"GRANT {privilege} ON *.* TO %s@%s{option}", account.user, account.host)
        self._make_proxies_equal(wanted, found, account)
        for role, _ in found.roles - wanted.roles:
            self._execute(f"REVOKE {role} FROM %s@%s", account.user, account.host)
        for role, may_give in wanted.roles - found.roles:
            option = " WITH ADMIN OPTION" if may_give else ""
            self._execute(f"GRANT {role} TO %s@%s{option}", account.user, account.host)
        if wanted.default_roles != found.default_roles or wanted.roles != found.roles:
            chosen, of = ", ".join(sorted(wanted.default_roles)) or "NONE", "FOR" if self.is_maria else "TO"
            self._execute(f"SET DEFAULT ROLE {chosen} {of} %s@%s", account.user, account.host)
        if wanted.login != found.login:
            self._require(wanted.login, account)
        if rules := wanted.rules.statement(found.rules):
            self._execute(f"ALTER USER %s@%s {rules}", account.user, account.host)

    def _make_proxies_equal(self, wanted: Rights, found: Rights, account: Account) -> None:
        for user, host, _ in found.proxies - wanted.proxies:
            self._execute("REVOKE PROXY ON %s@%s FROM %s@%s", user, host, account.user, account.host)
        for user, host, may_give in wanted.proxies - found.proxies:
            option = " WITH GRANT OPTION" if may_give == "1" else ""
            self._execute(f"GRANT PROXY ON %s@%s TO %s@%s{option}", user, host, account.user, account.host)

    def _require(self, login: Mapping[str, str], account: Account) -> None:
        named = [(word, login[column]) for column, word in _TLS.items() if login[column]]
        required = " AND ".join(f"{word} %s" for word, _ in named) or {"ANY": "SSL", "X509": "X509"}.get(
            login["ssl_type"], "NONE"
        )
        limits = _MARIA_LIMITS if self.is_maria else _LIMITS
        # Whole ones as they are: servers read `1e+06` as 1.
        numbers = " ".join(f"{word} {Decimal(login[column] or 0):f}" for column, word in limits.items())
        self._execute(
            f"ALTER USER %s@%s REQUIRE {required} WITH {numbers}",
            account.user,
            account.host,
            *(value for _, value in named),
        )

    def _rules(self, account: Account) -> Rules:
        if self.is_maria:
            return rules_of_maria(self._execute, account)
        return rules_of_mysql(self._execute, account, self._columns())

    def _columns(self) -> frozenset[str]:
        """Of MySQL's table of users: each release has more."""
        found = self._execute(
            "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'mysql' AND TABLE_NAME = 'user'"
        )
        return frozenset(_text(column) for (column,) in found)

    def _only_plugin(self, account: Account, plugin: str) -> str:
        """Of a user that logs in in one way, by one proof."""
        several = (
            "SELECT JSON_EXISTS(Priv, '$.auth_or') FROM mysql.global_priv"
            if self.is_maria
            else "SELECT JSON_CONTAINS_PATH(coalesce(User_attributes, '{}'), 'one', '$.multi_factor_authentication')"
            " FROM mysql.user"
        )
        found = self._execute(f"{several} WHERE User = %s AND Host = %s", account.user, account.host)
        return "several" if any(several for (several,) in found) else plugin or NATIVE

    def _restrictions(self, account: Account) -> str:
        found = self._execute(
            "SELECT User_attributes->>'$.Restrictions' FROM mysql.user WHERE User = %s AND Host = %s",
            account.user,
            account.host,
        )
        return _text(found[0][0])

    def _dynamic(self, account: Account) -> dict[str, bool]:
        rows = self._execute(
            "SELECT PRIV, WITH_GRANT_OPTION FROM mysql.global_grants WHERE USER = %s AND HOST = %s",
            account.user,
            account.host,
        )
        return {_privilege(_text(privilege)): may_give == "Y" for privilege, may_give in rows}

    def _privileges(self, account: Account, dynamic: Container[str]) -> Iterator[tuple[str, str]]:
        tables = (
            ("USER_PRIVILEGES", ()),
            ("SCHEMA_PRIVILEGES", ("TABLE_SCHEMA",)),
            ("TABLE_PRIVILEGES", ("TABLE_SCHEMA", "TABLE_NAME")),
            ("COLUMN_PRIVILEGES", ("TABLE_SCHEMA", "TABLE_NAME", "COLUMN_NAME")),
        )
        for table, named in tables:
            columns = ", ".join(("GRANTEE", "PRIVILEGE_TYPE", "IS_GRANTABLE", *named))
            # table and columns are the constants above
            for grantee, privilege, grantable, *names in self._execute(
                f"SELECT {columns} FROM information_schema.{table} WHERE GRANTEE = %s",  # noqa: S608
                account.grantee,
            ):
                # It compares without regard to case.
                if grantee != account.grantee or (not named and privilege in dynamic):
                    continue
                where = _object(names[:2])
                if privilege != _NONE:
                    yield _privilege(privilege) + (f" ({_quoted(names[2])})" if len(names) == 3 else ""), where
                if grantable == "YES":
                    yield _GRANTABLE, where
        yield from self._routine_privileges(account)

    def _routine_privileges(self, account: Account) -> Iterator[tuple[str, str]]:
        rows = self._execute(
            "SELECT Db, Routine_name, Routine_type, Proc_priv FROM mysql.procs_priv WHERE User = %s AND Host = %s",
            account.user,
            account.host,
        )
        for database, routine, kind, given in rows:
            if kind not in _ROUTINE_TYPES:
                raise _refused("the server has a privilege on something that is not known")
            for privilege in {privilege.strip().upper() for privilege in _text(given).split(",")} - {""}:
                word = _GRANTABLE if privilege == "GRANT" else _privilege(privilege)
                yield word, f"{kind} {_object((database, routine))}"

    def _roles(self, account: Account) -> Iterator[tuple[str, bool]]:
        if self.is_maria:
            for role, admin in self._execute(
                "SELECT Role, Admin_option FROM mysql.roles_mapping WHERE User = %s AND Host = %s",
                account.user,
                account.host,
            ):
                yield _quoted(role), admin == "Y"
            return
        for user, host, admin in self._execute(
            "SELECT FROM_USER, FROM_HOST, WITH_ADMIN_OPTION FROM mysql.role_edges WHERE TO_USER = %s AND TO_HOST = %s",
            account.user,
            account.host,
        ):
            yield f"{_quoted(user)}@{_quoted(host)}", admin == "Y"

    def _default_roles(self, account: Account, of_maria: str) -> frozenset[str]:
        if self.is_maria:
            return frozenset([_quoted(of_maria)] if of_maria else [])
        rows = self._execute(
            "SELECT DEFAULT_ROLE_USER, DEFAULT_ROLE_HOST FROM mysql.default_roles WHERE USER = %s AND HOST = %s",
            account.user,
            account.host,
        )
        return frozenset(f"{_quoted(user)}@{_quoted(host)}" for user, host in rows)

    def _proxies(self, account: Account) -> frozenset[tuple[str, ...]]:
        rows = self._execute(
            "SELECT Proxied_user, Proxied_host, With_grant FROM mysql.proxies_priv WHERE User = %s AND Host = %s",
            account.user,
            account.host,
        )
        return frozenset(tuple(map(_text, row)) for row in rows)


def _by_object(privileges: frozenset[tuple[str, str]]) -> dict[str, list[str]]:
    by_object = defaultdict(list)
    for privilege, where in sorted(privileges):
        by_object[where].append(privilege)
    return by_object


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


def _told(privilege: str, where: str) -> str:
    """Without a name of anything that the server keeps."""
    word, of_column, _ = privilege.partition(" (")
    if where == "*.*":
        level = "everything"
    elif where.startswith(_ROUTINE_TYPES):
        level = "a routine"
    elif where.endswith(".*"):
        level = "a database"
    else:
        level = "a column" if of_column else "a table"
    return f"{word if word in _TOLD else 'a privilege'} on {level}"


def _refused(what: str) -> StrongroomError:
    return StrongroomError(Reason.TARGET_CHANGE_REFUSED, what, incurable="true")
