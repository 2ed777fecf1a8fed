"""PostgreSQL logins.

Passwords travel as verifiers that are made here (SCRAM-SHA-256 unless the server is set otherwise), so that they are in
no log of the server's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from services.runtime.errors import Reason, StrongroomError
from services.secrets.destinations import address_of
from services.secrets.rotators.failures import failure
from services.secrets.rotators.rotator import require_plain, seconds_of
from services.secrets.rotators.tls import trust_file
from strongroom.secrets.v1.target_pb2 import TARGET_TLS_DISABLED, TARGET_TLS_VERIFY_CA, DatabaseTarget

_SSL_MODES = {TARGET_TLS_DISABLED: "disable", TARGET_TLS_VERIFY_CA: "verify-ca"}
# The server answered, and means neither user nor password: it starts, ends, or is full.
_FOR_A_WHILE = re.compile(r"starting up|shutting down|recovery|too many|connection slots|not yet accepting")

# What libpq itself says of a connection: a part of its words, and ours.
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
    """See Driver."""

    engine = "postgresql"
    port = 5432

    @contextmanager
    def login(
        self, target: DatabaseTarget, username: str, password: str, address: str
    ) -> Iterator[psycopg.Connection[Any]]:
        """See Driver. A password is proved by SCRAM and by nothing else, so that no server is sent it; where a server's
        name is not verified, the proof is bound to its certificate."""
        where = target.address
        seconds = seconds_of(where)
        # A NUL would end libpq's connection string, and with it what protects the connection.
        require_plain(where.host, target.database, username, password)
        with trust_file(where) as trust:
            try:
                connection = psycopg.connect(
                    host=where.host,
                    hostaddr=address if address_of(address) else None,
                    port=where.port or self.port,
                    dbname=target.database or "postgres",
                    user=username,
                    password=password,
                    sslmode=_SSL_MODES.get(where.tls, "verify-full"),
                    sslrootcert=trust,
                    gssencmode="disable",
                    require_auth="scram-sha-256",
                    channel_binding="require" if where.tls == TARGET_TLS_VERIFY_CA else "prefer",
                    connect_timeout=max(int(seconds), 2),
                    options=f"-c statement_timeout={int(seconds * 1000)}",
                    application_name="strongroom",
                )
            except psycopg.OperationalError as error:
                raise _login_failure(error, target, username) from None
        with connection:
            yield connection

    def change_own_password(
        self, connection: psycopg.Connection[Any], target: DatabaseTarget, username: str, password: str
    ) -> None:
        """See Driver."""
        self.change_password(connection, target, username, password)

    def change_password(
        self, connection: psycopg.Connection[Any], target: DatabaseTarget, username: str, password: str
    ) -> None:
        """See Driver."""
        with _change_of(username):
            _alter(connection, username, password)
            connection.commit()

    def clone_user(
        self, connection: psycopg.Connection[Any], target: DatabaseTarget, username: str, password: str
    ) -> None:
        """See Driver. The clone is a member of the first user's role and takes that role at login, so that it has its
        rights and what it makes belongs to it."""
        with _change_of(username):
            found = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [username]).fetchone()
            if found is None:
                clone, first = sql.Identifier(username), sql.Identifier(target.username)
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN IN ROLE {}").format(clone, first))
                connection.execute(sql.SQL("ALTER ROLE {} SET role TO {}").format(clone, sql.Literal(target.username)))
            _alter(connection, username, password)
            connection.commit()


def _alter(connection: psycopg.Connection[Any], username: str, password: str) -> None:
    setting = connection.execute("SHOW password_encryption").fetchone()
    algorithm = b"md5" if setting is not None and setting[0] == "md5" else b"scram-sha-256"
    verifier = connection.pgconn.encrypt_password(password.encode(), username.encode(), algorithm)
    statement = sql.SQL("ALTER ROLE {} WITH LOGIN PASSWORD {}")
    own = sql.SQL("ALTER ROLE {} WITH PASSWORD {}")
    form = own if connection.info.user == username else statement
    connection.execute(form.format(sql.Identifier(username), sql.Literal(verifier.decode())))


@contextmanager
def _change_of(username: str) -> Iterator[None]:
    try:
        yield
    except psycopg.OperationalError as error:
        what = f"the password of {username} was not changed"
        raise failure(Reason.TARGET_UNREACHABLE, what, error, _code(error)) from None
    except psycopg.Error as error:
        what = f"the password of {username} was not changed"
        raise failure(Reason.TARGET_CHANGE_REFUSED, what, error, _code(error)) from None


def _code(error: psycopg.Error) -> str:
    """The SQLSTATE of an error, where it is one that PostgreSQL has."""
    try:
        psycopg.errors.lookup(error.sqlstate or "")
    except KeyError:
        return ""
    return f"SQLSTATE {error.sqlstate}"


def _login_failure(error: psycopg.OperationalError, target: DatabaseTarget, username: str) -> StrongroomError:
    # libpq gives no code for what a server says before the login, but begins it with the severity. Its text decides
    # which of our own is told, and goes no further.
    text, host = str(error), target.address.host
    refused = "FATAL" in text and not _FOR_A_WHILE.search(text)
    reason = Reason.TARGET_LOGIN_REFUSED if refused else Reason.TARGET_UNREACHABLE
    told = next((own for mark, own in _LIBPQ.items() if mark in text), "")
    return failure(reason, f"login of {username} at {host}", error, told or ("refused" if refused else ""))
