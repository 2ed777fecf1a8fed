"""What MySQL and MariaDB ask of a user's passwords, and whether the user is locked: read from their tables, and in the
words of ALTER USER."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.secrets.rotation.rotators.mysql_passwords import Account, Execute

_IN_MARIA = ("JSON_VALUE(Priv, '$.account_locked')", "JSON_VALUE(Priv, '$.password_lifetime')")
_ATTRIBUTES = "User_attributes"
_LOCKING = f"{_ATTRIBUTES}->>'$.Password_locking"
# Releases that have a column have the words for it.
_COLUMNS = {
    "lifetime": "password_lifetime",
    "history": "Password_reuse_history",
    "reuse": "Password_reuse_time",
    "current": "Password_require_current",
}
_IN_ATTRIBUTES = {
    "attempts": f"{_LOCKING}.failed_login_attempts'",
    "lock": f"{_LOCKING}.password_lock_time_days'",
}
_DEFAULT_LIFETIME_OF_MARIA = "-1"
_YES = ("Y", "1", "true")
_UNBOUNDED = "-1"


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one user."""

    passwords: Mapping[str, str] = field(default_factory=dict)
    """By name; empty for what the server asks of everybody."""
    is_locked: bool = False

    def statement(self, found: Rules) -> str:
        """What ALTER USER is to say of passwords for another user, of whom `found` holds so far, to have these; empty
        where it has them."""
        names = [name for name, value in self.passwords.items() if found.passwords.get(name, "") != value]
        clauses = [_clause(name, self.passwords[name]) for name in names if name not in _IN_ATTRIBUTES]
        if any(name in _IN_ATTRIBUTES for name in names):
            attempts, lock = (self.passwords[name] for name in _IN_ATTRIBUTES)
            days = "UNBOUNDED" if lock == _UNBOUNDED else str(int(lock or 0))
            clauses.append(f"FAILED_LOGIN_ATTEMPTS {int(attempts or 0)} PASSWORD_LOCK_TIME {days}")
        return " ".join(clauses)


def rules_of_maria(execute: Execute, account: Account) -> Rules:
    """What MariaDB has of a user that is there."""
    locked, lifetime = _of(execute, "global_priv", _IN_MARIA, account)
    return Rules({"lifetime": "" if lifetime == _DEFAULT_LIFETIME_OF_MARIA else lifetime}, locked in _YES)


def rules_of_mysql(execute: Execute, account: Account, columns: frozenset[str]) -> Rules:
    """What MySQL has of a user that is there, in the columns that its table has."""
    wanted = {name: column for name, column in _COLUMNS.items() if column in columns}
    if _ATTRIBUTES in columns:
        wanted |= _IN_ATTRIBUTES
    locked, *found = _of(execute, "user", ("account_locked", *wanted.values()), account)
    return Rules(dict(zip(wanted, found, strict=True)), locked in _YES)


def _of(execute: Execute, table: str, columns: Sequence[str], account: Account) -> list[str]:
    rows = execute(
        f"SELECT {', '.join(columns)} FROM mysql.{table} WHERE User = %s AND Host = %s",  # noqa: S608  # constants
        account.user,
        account.host,
    )
    return [text(value) for value in (rows[0] if rows else [None] * len(columns))]


def text(value: object) -> str:
    """A column's value; empty for NULL."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return "" if value is None else str(value)


def _clause(name: str, value: str) -> str:
    if name == "current":
        return f"PASSWORD REQUIRE CURRENT {({'': 'DEFAULT', 'N': 'OPTIONAL'}).get(value, '')}".rstrip()
    number = "DEFAULT" if value == "" else str(int(value))
    if name == "history":
        return f"PASSWORD HISTORY {number}"
    if name == "reuse":
        return f"PASSWORD REUSE INTERVAL {number}{'' if value == '' else ' DAY'}"
    if value == "":
        return "PASSWORD EXPIRE DEFAULT"
    return "PASSWORD EXPIRE NEVER" if int(value) == 0 else f"PASSWORD EXPIRE INTERVAL {number} DAY"
