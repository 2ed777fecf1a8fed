"""MySQL and MariaDB logins."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pymysql
from pymysql.connections import Connection
from pymysql.constants import ER

from services.runtime.errors import Reason, StrongroomError
from services.secrets.rotators.failures import failure
from services.secrets.rotators.mysql_grants import Account, copy_grants
from services.secrets.rotators.mysql_login import ProvingConnection
from services.secrets.rotators.rotator import require_plain, seconds_of
from services.secrets.rotators.tls import ssl_context
from strongroom.secrets.v1.target_pb2 import TARGET_TLS_DISABLED, TARGET_TLS_VERIFY_CA, DatabaseTarget

_DEFAULT_HOST = "%"
# What the server says of a login: wrong user or password, no right to the database, no such database, host not allowed,
# account locked, access denied by a plugin.
_REFUSALS = frozenset({1044, 1045, 1049, 1130, 3118, 1698, 4151})
_SERVER_ERRORS = frozenset(number for number in vars(ER).values() if isinstance(number, int)) | _REFUSALS
# What the client says of a connection: not made, lost, not answered.
_FIRST_CLIENT_ERROR = 2000


class MysqlDriver:
    """See Driver. The server's own log of statements, where it is on, holds passwords as MySQL and MariaDB write them
    there: MySQL's redacted, MariaDB's in the clear."""

    engine = "mysql"
    port = 3306

    @contextmanager
    def login(self, target: DatabaseTarget, username: str, password: str, address: str) -> Iterator[Connection[Any]]:
        """See Driver."""
        where = target.address
        seconds = seconds_of(where)
        require_plain(where.host, target.database, username, password)
        try:
            connection = ProvingConnection(
                address,
                host=where.host,
                port=where.port or self.port,
                database=target.database or None,
                user=username,
                password=password,
                ssl=ssl_context(where),
                is_verified=where.tls not in (TARGET_TLS_DISABLED, TARGET_TLS_VERIFY_CA),
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

    def change_own_password(
        self, connection: Connection[Any], target: DatabaseTarget, username: str, password: str
    ) -> None:
        """See Driver."""
        # A user may do this for itself; ALTER USER needs rights on MariaDB.
        ((version,),) = _execute(connection, username, "SELECT VERSION()")
        maria = "MariaDB" in version
        _execute(connection, username, "SET PASSWORD = PASSWORD(%s)" if maria else "SET PASSWORD = %s", password)

    def change_password(
        self, connection: Connection[Any], target: DatabaseTarget, username: str, password: str
    ) -> None:
        """See Driver."""
        _execute(connection, username, "ALTER USER %s@%s IDENTIFIED BY %s", username, _host(target), password)

    def clone_user(self, connection: Connection[Any], target: DatabaseTarget, username: str, password: str) -> None:
        """See Driver. The first user's grants and roles are given to the second each time, before its password is set:
        who logs in with that has them."""
        host = _host(target)
        unused = secrets.token_urlsafe(32) + "aA1!"
        _execute(connection, username, "CREATE USER IF NOT EXISTS %s@%s IDENTIFIED BY %s", username, host, unused)
        execute = partial(_execute, connection, username)
        copy_grants(execute, Account(target.username, host), Account(username, host))
        self.change_password(connection, target, username, password)


def _host(target: DatabaseTarget) -> str:
    return target.mysql_host or _DEFAULT_HOST


def _execute(connection: Connection[Any], username: str, statement: str, *values: str) -> Any:
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()
    except (pymysql.Error, OSError) as error:
        reason = Reason.TARGET_UNREACHABLE if _number(error) >= _FIRST_CLIENT_ERROR else Reason.TARGET_CHANGE_REFUSED
        raise failure(reason, f"{username} was not changed", error, _code(error)) from None


def _login_failure(error: Exception, what: str) -> StrongroomError:
    reason = Reason.TARGET_LOGIN_REFUSED if _number(error) in _REFUSALS else Reason.TARGET_UNREACHABLE
    return failure(reason, what, error, _code(error))


def _code(error: Exception) -> str:
    """The number of a server's error, where it is one that MySQL has."""
    number = _number(error)
    return f"error {number}" if number in _SERVER_ERRORS else ""


def _number(error: Exception) -> int:
    """The number of a server's or client's error; for what has none a connection's."""
    number = error.args[0] if error.args else None
    return number if isinstance(number, int) and isinstance(error, pymysql.Error) else _FIRST_CLIENT_ERROR
