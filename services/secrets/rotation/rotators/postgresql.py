"""PostgreSQL logins.

Passwords travel as verifiers of SCRAM-SHA-256 that are made here, so that they are in no log of the server's.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from services.runtime.errors import Reason, StrongroomError
from services.secrets.core.destinations import address_of
from services.secrets.kinds.declared.postgresql import POSTGRESQL
from services.secrets.rotation.rotators.database import DatabaseRotator
from services.secrets.rotation.rotators.failures import failure
from services.secrets.rotation.rotators.postgresql_login import LoginError, connect, is_away
from services.secrets.rotation.rotators.postgresql_rights import (
    FirstUserAbsentError,
    besides,
    differences,
    make_equal,
    may_log_in,
)
from services.secrets.rotation.rotators.rotator import Rotator, Supplies, require_plain, seconds_of
from services.secrets.rotation.rotators.tls import trust_file
from strongroom.secrets.v1.target_pb2 import TARGET_TLS_DISABLED, TARGET_TLS_VERIFY_CA, DatabaseTarget

_SSL_MODES = {TARGET_TLS_DISABLED: "disable", TARGET_TLS_VERIFY_CA: "verify-ca"}
_READ_ONLY = "25006"
# What libpq itself says of a connection, a part of its words, and ours. It decides nothing.
_LIBPQ = {
    "certificate verify failed": "its certificate is not trusted",
    "does not match host name": "its certificate is for another host",
    "does not support SSL": "it does not support TLS",
    "SSL error": "no TLS connection was made",
    "authentication method requirement": "it asked for the password itself, which is sent to nobody: it must use SCRAM",
    "channel binding": "it cannot bind the login to its certificate",
    "Connection refused": "ECONNREFUSED",
    "timeout expired": "no answer in time",
    "could not translate host name": "the host name is not known",
}


class PostgresqlDriver:
    """Logins of PostgreSQL."""

    kind = POSTGRESQL

    @contextmanager
    def login(
        self, target: DatabaseTarget, username: str, password: str, address: str
    ) -> Iterator[psycopg.Connection[Any]]:
        """A connection to the target's host, which is at `address`. A password is proved by SCRAM and by nothing else,
        so that no server is sent it; where a server's name is not verified, the proof is bound to its certificate."""
        where = target.address
        seconds = seconds_of(where)
        # A NUL would end libpq's connection string, and with it what protects the connection.
        require_plain(where.host, target.database, username, password)
        try:
            connection = connect(
                seconds,
                host=where.host,
                hostaddr=address if address_of(address) else None,
                port=where.port or self.kind.port,
                dbname=target.database or "postgres",
                user=username,
                password=password,
                sslmode=_SSL_MODES.get(where.tls, "verify-full"),
                sslrootcert=trust_file(where),
                gssencmode="disable",
                require_auth="scram-sha-256",
                channel_binding="require" if where.tls == TARGET_TLS_VERIFY_CA else "prefer",
                application_name="strongroom",
            )
        except LoginError as error:
            raise _login_failure(error, target, username) from None
        with connection:
            try:
                # Not a start-up parameter, which poolers refuse; and one of them may have let in whom the server
                # behind it has not seen yet.
                connection.execute("SELECT set_config('statement_timeout', %s, true)", [str(int(seconds * 1000))])
            except psycopg.Error as error:
                raise _login_failure(LoginError(error.sqlstate, ""), target, username) from None
            yield connection

    def check_own(self, connection: psycopg.Connection[Any], target: DatabaseTarget) -> None:
        """Every user may change its own password, of which the server is shown a verifier."""

    def change_own_password(
        self, connection: psycopg.Connection[Any], target: DatabaseTarget, username: str, password: str
    ) -> None:
        """Changes the password of whom the connection is of."""
        self.change_password(connection, target, username, password)

    def change_password(
        self, connection: psycopg.Connection[Any], target: DatabaseTarget, username: str, password: str
    ) -> None:
        """Changes a user's password."""
        with _change_of(username):
            _alter(connection, username, password)
            connection.commit()

    def clone_user(
        self, connection: psycopg.Connection[Any], target: DatabaseTarget, username: str, password: str
    ) -> None:
        """Changes the password of a user that is made where it is absent, once it has the rights of the target's first
        user. All of it is one transaction."""
        with _change_of(username):
            make_equal(connection, target.username, username)
            _alter(connection, username, password)
            _require_none(differences(connection, target.username, username), username)
            connection.commit()

    def require_equal(
        self, connection: psycopg.Connection[Any], target: DatabaseTarget, username: str, *, template: bool
    ) -> None:
        """Compares the second user with the first. What the second user has it has by way of the first, who therefore
        lacks nothing but what somebody gave the second user itself."""
        with _change_of(username):
            if not template:
                _require_none(differences(connection, target.username, username), username)
            elif found := besides(connection, target.username, username):
                what = f"{target.username} has not the same rights as the second user: {'; '.join(found)}"
                raise StrongroomError(Reason.TARGET_RIGHTS_MISSING, what)

    def check_master(self, connection: psycopg.Connection[Any], target: DatabaseTarget, alternate: str) -> None:
        """Whether the master may do what rotations need, with a second user where one is named. What a rotation would
        do is done, and rolled back."""
        unused = secrets.token_urlsafe(32)
        with _change_of(target.username):
            try:
                _alter(connection, target.username, unused)
                if not may_log_in(connection, target.username):
                    what = "the user may not log in: give it LOGIN, which no rotation does"
                    raise StrongroomError(Reason.TARGET_CHANGE_REFUSED, what, incurable="true")
                if alternate:
                    make_equal(connection, target.username, alternate)
                    _alter(connection, alternate, unused)
            finally:
                connection.rollback()

    def try_out(self, connection: psycopg.Connection[Any], target: DatabaseTarget, username: str) -> None:
        """Whether who has logged in can do what is wanted: the target's own statement among it."""
        try:
            if username != target.username:
                _require_none(differences(connection, target.username, username), username)
            if target.test_statement:
                connection.execute("SET TRANSACTION READ ONLY")
                # Always one statement, which cannot end this transaction and begin another.
                for _ in connection.cursor().stream(target.test_statement):
                    break
        except FirstUserAbsentError:
            raise StrongroomError(Reason.TARGET_RIGHTS_MISSING, "the first user is not there") from None
        except psycopg.Error as error:
            away = is_away(error.sqlstate) and error.sqlstate != _READ_ONLY
            reason = Reason.TARGET_UNREACHABLE if away else Reason.TARGET_RIGHTS_MISSING
            raise failure(reason, f"{username} logs in, but was not tried out", error, _code(error)) from None


def _alter(connection: psycopg.Connection[Any], username: str, password: str) -> None:
    # Whatever the server is set to: an MD5 digest logs in like the password itself, and logins here are by SCRAM.
    verifier = connection.pgconn.encrypt_password(password.encode(), username.encode(), b"scram-sha-256")
    # Not LOGIN: who took that from a user has locked it out.
    statement = sql.SQL("ALTER ROLE {} WITH PASSWORD {}")
    connection.execute(statement.format(sql.Identifier(username), sql.Literal(verifier.decode())))


@contextmanager
def _change_of(username: str) -> Iterator[None]:
    try:
        yield
    except FirstUserAbsentError:
        raise StrongroomError(Reason.TARGET_CHANGE_REFUSED, "the first user is not there") from None
    except psycopg.Error as error:
        what = f"the password of {username} was not changed"
        reason = Reason.TARGET_UNREACHABLE if is_away(error.sqlstate) else Reason.TARGET_CHANGE_REFUSED
        raise failure(reason, what, error, _code(error)) from None


def _require_none(found: Sequence[str], username: str) -> None:
    if found:
        what = f"{username} has not the same rights as the first user: {'; '.join(found)}"
        raise StrongroomError(Reason.TARGET_RIGHTS_MISSING, what)


def _code(error: psycopg.Error) -> str:
    """The SQLSTATE of an error, where it is one that PostgreSQL has."""
    return _known(error.sqlstate or "")


def _known(sqlstate: str) -> str:
    try:
        psycopg.errors.lookup(sqlstate)
    except KeyError:
        return ""
    return f"SQLSTATE {sqlstate}"


def _login_failure(error: LoginError, target: DatabaseTarget, username: str) -> StrongroomError:
    what = f"login of {username} at {target.address.host}"
    if error.sqlstate is not None:
        reason = Reason.TARGET_UNREACHABLE if error.is_away else Reason.TARGET_LOGIN_REFUSED
        return failure(reason, what, error, _known(error.sqlstate) or "refused")
    told = next((own for mark, own in _LIBPQ.items() if mark in error.libpq_says), "")
    return failure(Reason.TARGET_UNREACHABLE, what, error, told or "no connection was made")


def rotator(_supplies: Supplies) -> Rotator:
    """The rotator of POSTGRESQL."""
    return DatabaseRotator(PostgresqlDriver())
