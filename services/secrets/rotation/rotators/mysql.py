"""MySQL and MariaDB logins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pymysql
from pymysql.constants import ER
from pymysql.cursors import SSCursor

from services.runtime.errors import Reason, StrongroomError
from services.secrets.kinds.declared.mysql import MYSQL
from services.secrets.rotation.rotators.database import DatabaseRotator
from services.secrets.rotation.rotators.failures import failure
from services.secrets.rotation.rotators.mysql_grants import Catalog, Rights
from services.secrets.rotation.rotators.mysql_login import ProvingConnection
from services.secrets.rotation.rotators.mysql_masters import master_of
from services.secrets.rotation.rotators.mysql_passwords import (
    MARIA_PLUGINS,
    MYSQL_PLUGINS,
    UNREADABLE,
    Account,
    Passwords,
    ServerError,
)
from services.secrets.rotation.rotators.proof import Proof, proof_of
from services.secrets.rotation.rotators.rotator import Rotator, Supplies, require_plain, seconds_of
from services.secrets.rotation.rotators.tls import ssl_context
from strongroom.secrets.v1.target_pb2 import DatabaseTarget

_DEFAULT_HOST = "%"
# What the server says of a login: wrong user or password, no right to the database, no such database, host not allowed,
# account locked, by hand or after failed logins, access denied by a plugin.
# Its password has expired is another (MySQL, and MariaDB, whose number it is too).
_REFUSALS = frozenset({1044, 1045, 1049, 1130, 3118, 3955, 1698, 4151, 1862})
_PASSWORD_EXPIRED = 1862
# The server's own policy of passwords: too simple, used before, refused by a plugin.
_VALUE_REFUSED = frozenset({1819, 3638, 4165})
# Full, starting, ending, offline, out of a resource, locked, or read-only: it says nothing of what was asked.
_AWAY = frozenset({1040, 1041, 1053, 1129, 1203, 1205, 1213, 1226, 1290, 1836, 1927, 3024, 3032, 1969})
_SERVER_ERRORS = frozenset(number for number in vars(ER).values() if isinstance(number, int)) | _REFUSALS
# What the client says of a connection: not made, lost, not answered.
_FIRST_CLIENT_ERROR, _LAST_CLIENT_ERROR = 2000, 2999


class MysqlDriver:
    """Logins of MySQL and MariaDB. The server's own log of statements, where it is on, holds passwords as MySQL and
    MariaDB write them there: MySQL's redacted, MariaDB's in the clear."""

    kind = MYSQL

    @contextmanager
    def login(self, target: DatabaseTarget, username: str, password: str, address: str) -> Iterator[ProvingConnection]:
        """A connection to the target's host, which is at `address`."""
        where = target.address
        seconds = seconds_of(where)
        require_plain(where.host, target.database, username, password)
        try:
            connection = ProvingConnection(
                address,
                host=where.host,
                port=where.port or self.kind.port,
                database=target.database or None,
                user=username,
                password=password,
                ssl=ssl_context(where),
                is_verified=proof_of(where, address) is Proof.NAME,
                connect_timeout=seconds,
                read_timeout=seconds,
                write_timeout=seconds,
                charset="utf8mb4",
                program_name="strongroom",
            )
        except (pymysql.Error, OSError) as error:
            raise _login_failure(error, f"login of {username} at {where.host}") from None
        try:
            yield connection
        finally:
            connection.close()

    def check_own(self, connection: ProvingConnection, target: DatabaseTarget) -> None:
        """Whether whom the connection is of may change its own password over it."""
        _passwords(connection, target.username).require_own_change()

    def change_own_password(
        self, connection: ProvingConnection, target: DatabaseTarget, username: str, password: str
    ) -> None:
        """Changes the password of whom the connection is of. The plugin stays."""
        _passwords(connection, username).set_own(connection.plugin, password, connection.login_password)

    def change_password(
        self, connection: ProvingConnection, target: DatabaseTarget, username: str, password: str
    ) -> None:
        """Changes a user's password. The plugin stays, also where a master may not read the server's tables."""
        execute, account = partial(_execute, connection, username), Account(username, _host(target))
        passwords = _passwords(connection, username)
        try:
            found = Catalog(execute).rights(account)
        except ServerError as error:
            if error.number not in UNREADABLE:
                raise
            passwords.set_unseen(account, password)
            return
        passwords.set(account, _there(found, account).plugin, password)

    def clone_user(self, connection: ProvingConnection, target: DatabaseTarget, username: str, password: str) -> None:
        """Changes the password of a user that is made where it is absent, once it has the rights of the target's first
        user."""
        execute, host = partial(_execute, connection, username), _host(target)
        catalog, account = Catalog(execute), Account(username, host)
        first = _there(catalog.rights(Account(target.username, host)), Account(target.username, host))
        if first.rules.is_locked:
            # Whoever locked it locked out its programs, which would come in again as the second user.
            what = "the account of the first user is locked: unlock it before its programs get another user"
            raise StrongroomError(Reason.TARGET_CHANGE_REFUSED, what)
        passwords = _passwords(connection, username)
        if catalog.rights(account) is None:
            passwords.make(account, first.plugin)
        catalog.make_equal(first, _there(catalog.rights(account), account), account)
        # Read again: what the server took in is what counts.
        made = replace(_there(catalog.rights(account), account), plugin=first.plugin)
        _require_none(made.lacks(first), first.lacks(made), made.differs(first))
        passwords.set(account, first.plugin, password)

    def require_equal(
        self, connection: ProvingConnection, target: DatabaseTarget, username: str, *, template: bool
    ) -> None:
        """Compares the second user with the first."""
        catalog = Catalog(partial(_execute, connection, username))
        first, second = (catalog.rights(Account(name, _host(target))) for name in (target.username, username))
        if first is None:
            _require_none(["the user itself"], [], [])
        elif template:
            # A second user that has gone is no one's to lose rights from.
            _require_none(first.lacks(second) if second else [], [], [])
        elif second is None:
            _require_none(["the user itself"], [], [])
        else:
            _require_none(second.lacks(first), first.lacks(second), second.differs(first))

    def check_master(self, connection: ProvingConnection, target: DatabaseTarget, alternate: str) -> None:
        """Whether the master may do what rotations need, with a second user where one is named: also by the roles
        that its logins take."""
        execute, account = partial(_execute, connection, target.username), Account(target.username, _host(target))
        catalog = Catalog(execute)
        try:
            first = _there(catalog.rights(account), account)
        except ServerError as error:
            if alternate or error.number not in UNREADABLE:
                raise
            _passwords(connection, target.username).require_unseen_change()
            return
        if not target.mysql_host and len(catalog.hosts(target.username)) > 1:
            raise _incurable(
                "accounts of this name are at several hosts, and only one of them would get the new password: name its"
                " host (mysql_host)"
            )
        if first.plugin not in (MARIA_PLUGINS if catalog.is_maria else MYSQL_PLUGINS):
            raise _incurable("the user does not log in with a password that the server keeps")
        if alternate and first.restrictions:
            raise _incurable("the first user has partial revokes, which no second user can be given")
        master = master_of(catalog, execute)
        if master is None:
            return
        if not master.may_make_users:
            raise _incurable("the master has not CREATE USER")
        if alternate and (why := master.cannot_give(first)):
            raise _incurable(why)

    def try_out(self, connection: ProvingConnection, target: DatabaseTarget, username: str) -> None:
        """Whether who has logged in can do what is wanted: the target's own statement among it."""
        if target.master_secret:
            _require_account(connection, target, username)
        if not target.test_statement:
            return
        try:
            with connection.cursor(SSCursor) as cursor:
                cursor.execute("START TRANSACTION READ ONLY")
                cursor.execute(target.test_statement)
                cursor.fetchone()
                # What is left of the answer is not read: closing it would.
                connection._force_close()  # type: ignore[attr-defined]
                cursor.connection = None  # type: ignore[assignment]
        except (pymysql.Error, OSError) as error:
            away = _reason(_number(error)) is Reason.TARGET_UNREACHABLE
            reason = Reason.TARGET_UNREACHABLE if away else Reason.TARGET_RIGHTS_MISSING
            raise failure(reason, f"{username} logs in, but test_statement failed", error, _code(error)) from None


def _passwords(connection: ProvingConnection, username: str) -> Passwords:
    execute = partial(_execute, connection, username)
    ((version,),) = execute("SELECT VERSION()")
    return Passwords(execute, is_maria="MariaDB" in version, is_proved=connection.is_verified)


def _host(target: DatabaseTarget) -> str:
    return target.mysql_host or _DEFAULT_HOST


def _require_account(connection: ProvingConnection, target: DatabaseTarget, username: str) -> None:
    """Who has logged in is the account that the master changes: a server with accounts of one name at several hosts
    takes the one whose host is the narrowest."""
    ((name,),) = _execute(connection, username, "SELECT CURRENT_USER()")
    user, _, host = name.rpartition("@")
    if (user, host.casefold()) != (username, _host(target).casefold()):
        raise _incurable(
            "the server takes the login for an account at another host than the target names (mysql_host), which would"
            " not get the new password"
        )


def _there(found: Rights | None, account: Account) -> Rights:
    if found is None:
        host = "" if account.host == _DEFAULT_HOST else " (mysql_host)"
        raise _incurable(f"there is no user of this name at the host that the target names{host}")
    return found


def _require_none(lacking: Sequence[str], besides: Sequence[str], otherwise: Sequence[str]) -> None:
    told = [
        f"{how}: {', '.join(what)}"
        for how, what in (("missing", lacking), ("besides", besides), ("otherwise", otherwise))
        if what
    ]
    if told:
        what = f"the two users have not the same rights ({'; '.join(told)})"
        raise StrongroomError(Reason.TARGET_RIGHTS_MISSING, what)


def _incurable(what: str) -> StrongroomError:
    return StrongroomError(Reason.TARGET_CHANGE_REFUSED, what, incurable="true")


def _execute(connection: ProvingConnection, username: str, statement: str, *values: str) -> Any:
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()
    except (pymysql.Error, OSError) as error:
        told = failure(_reason(_number(error)), f"{username} was not changed", error, _code(error))
        raised = ServerError(told.reason, told.message)
        raised.number = _number(error)
        raise raised from None


def _reason(number: int) -> Reason:
    if _FIRST_CLIENT_ERROR <= number <= _LAST_CLIENT_ERROR or number in _AWAY:
        return Reason.TARGET_UNREACHABLE
    return Reason.TARGET_VALUE_REFUSED if number in _VALUE_REFUSED else Reason.TARGET_CHANGE_REFUSED


def _login_failure(error: Exception, what: str) -> StrongroomError:
    number = _number(error)
    reason = Reason.TARGET_LOGIN_REFUSED if number in _REFUSALS else Reason.TARGET_UNREACHABLE
    expired = ", the password has expired" if number == _PASSWORD_EXPIRED else ""
    return failure(reason, what, error, _code(error) + expired)


def _code(error: Exception) -> str:
    """The number of a server's error, where it is one that MySQL has."""
    number = _number(error)
    return f"error {number}" if number in _SERVER_ERRORS else ""


def _number(error: Exception) -> int:
    """The number of a server's or client's error; for what has none a connection's."""
    number = error.args[0] if error.args else None
    return number if isinstance(number, int) and isinstance(error, pymysql.Error) else _FIRST_CLIENT_ERROR


def rotator(_supplies: Supplies) -> Rotator:
    """The rotator of MYSQL."""
    return DatabaseRotator(MysqlDriver())
