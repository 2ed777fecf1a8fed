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
from services.secrets.rotators.rotator import failure, seconds_of
from services.secrets.rotators.tls import trust_file
from strongroom.secrets.v1.target_pb2 import TARGET_TLS_DISABLED, TARGET_TLS_VERIFY_CA, DatabaseTarget

_SSL_MODES = {TARGET_TLS_DISABLED: "disable", TARGET_TLS_VERIFY_CA: "verify-ca"}
# The server answered, and means neither user nor password: it starts, ends, or is full.
_FOR_A_WHILE = re.compile(r"starting up|shutting down|recovery|too many|connection slots|not yet accepting")


class PostgresqlDriver:
    """See Driver."""

    engine = "postgresql"
    port = 5432

    @contextmanager
    def login(self, target: DatabaseTarget, username: str, password: str) -> Iterator[psycopg.Connection[Any]]:
        """See Driver."""
        address = target.address
        seconds = seconds_of(address)
        with trust_file(address) as trust:
            try:
                connection = psycopg.connect(
                    host=address.host,
                    port=address.port or self.port,
                    dbname=target.database or "postgres",
                    user=username,
                    password=password,
                    sslmode=_SSL_MODES.get(address.tls, "verify-full"),
                    sslrootcert=trust,
                    connect_timeout=max(int(seconds), 2),
                    options=f"-c statement_timeout={int(seconds * 1000)}",
                    application_name="strongroom",
                )
            except psycopg.OperationalError as error:
                raise _login_failure(error, username) from None
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
        raise failure(Reason.TARGET_UNREACHABLE, f"the password of {username} was not changed", error) from None
    except psycopg.Error as error:
        raise failure(Reason.TARGET_CHANGE_REFUSED, f"the password of {username} was not changed", error) from None


def _login_failure(error: psycopg.OperationalError, username: str) -> StrongroomError:
    # libpq gives no code for what a server says before the login, but begins it with the severity.
    refused = "FATAL" in str(error) and not _FOR_A_WHILE.search(str(error))
    reason = Reason.TARGET_LOGIN_REFUSED if refused else Reason.TARGET_UNREACHABLE
    return failure(reason, f"login of {username}", error)
