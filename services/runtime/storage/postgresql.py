"""Connections to PostgreSQL on which nothing waits for long: neither for a server that hangs, nor for the lock of a
process that does.

A server that hangs is not noticed by TCP: the kernel goes on acknowledging. So each statement has a limit on this side,
after which its connection is cut; and while it waits, the server is asked whether it answers at all (`answering`). What
a process that hangs holds locked is given back by the server, which ends transactions that do nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, text

from services.runtime.storage.answering import Place, Server

RV = TypeVar("RV")

STATEMENT_SECONDS = 3.0
"""How long the server may take for one statement."""

LOOK_SECONDS = 0.4
"""After this time without an answer, and again and again after it, the server is asked whether it hangs."""

_PATIENT_SECONDS = 1_800.0
_INTERRUPT_SECONDS = 0.1
_SEVERAL = 2
# A connection that took so long waited for a server that did not answer.
_SLOW_SECONDS = 1.5
# Each shorter than the one after it: whoever waits for a lock of a process that hangs gets it, and whoever does not get
# it keeps the connection. A limit that the URL or the role sets is kept.
_LIMITS = (("idle_in_transaction_session_timeout", "2000ms"), ("lock_timeout", "2500ms"))
_LIMIT = (
    "SELECT set_config(limits.name, limits.value, false) FROM (VALUES "  # noqa: S608  # our own words
    f"{', '.join(f'({name!r}, {value!r})' for name, value in _LIMITS)}) AS limits (name, value) "
    "WHERE current_setting(limits.name) = '0'"
)
_DELIBERATE = "SET LOCAL idle_in_transaction_session_timeout = '10000ms'"
_UNLIMIT = "; ".join(f"SET LOCAL {name} = 0" for name, _ in _LIMITS)

ARGUMENTS: dict[str, Any] = {
    "connect_timeout": 2,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "target_session_attrs": "read-write",
}
"""What libpq is told: a server that does not answer, vanished without a word or takes no writes is not connected to."""


class LimitedConnection(psycopg.Connection[Any]):
    """One that waits for its server no longer than it may, and is closed then."""

    seconds = STATEMENT_SECONDS
    server: Server | None = None
    opened_at = 0.0

    def wait(self, gen: PQGen[RV], interval: float = _INTERRUPT_SECONDS, timeout: float | None = None) -> RV:
        """Runs whatever is done on the connection; every statement, BEGIN and COMMIT. Raises OperationalError when the
        server has not answered in time, or answers nobody: what became of the statement is not known."""
        seconds = self.seconds if timeout is None else timeout
        server = self.server if seconds <= STATEMENT_SECONDS else None
        if server is not None and server.silent_at > self.opened_at:
            self.close()
            raise psycopg.OperationalError("the server did not answer on another connection")
        deadline = time.monotonic() + seconds
        left = seconds if server is None else min(seconds, LOOK_SECONDS)
        while True:
            try:
                return super().wait(gen, interval, left)
            except psycopg.OperationalError as error:
                if error.sqlstate is not None or self.pgconn.transaction_status != TransactionStatus.ACTIVE:
                    raise
            if time.monotonic() < deadline and server is not None and server.answers():
                left = max(min(deadline - time.monotonic(), LOOK_SECONDS), 0.0)
                continue
            # Its answer may come yet, and must not be taken for that of the next statement.
            self.close()
            if self.server is not None:
                self.server.note_slow()
            raise psycopg.OperationalError("the server did not answer in time")


class Connecting:
    """Opens the connections of one engine, as a listener of SQLAlchemy's `do_connect`. Of several servers, those that
    do not answer are tried last: each try costs seconds."""

    def __init__(self) -> None:
        self._servers: dict[Place, Server] = {}

    def __call__(
        self, _dialect: Any, _record: Any, arguments: list[Any], keywords: dict[str, Any]
    ) -> LimitedConnection:
        """Opens one. Raises psycopg's OperationalError when no server lets it."""
        places = self._ordered(keywords)
        if places:
            keywords |= {"host": ",".join(host for host, _ in places), "port": ",".join(port for _, port in places)}
        began = time.monotonic()
        connection = LimitedConnection.connect(*arguments, **keywords)
        place = connection.info.host, str(connection.info.port)
        if place in places and time.monotonic() - began > _SLOW_SECONDS:
            for passed_over in places[: places.index(place)]:
                self._server(passed_over).note_slow()
        connection.server, connection.opened_at = self._server(place), time.monotonic()
        return _limited(connection)

    def _ordered(self, keywords: dict[str, Any]) -> list[Place]:
        """The servers in the order to try them; none where there is but one."""
        hosts, ports = (str(keywords.get(name, "")).split(",") for name in ("host", "port"))
        if len(hosts) < _SEVERAL or len(hosts) != len(ports):
            return []
        places = sorted(zip(hosts, ports, strict=True), key=self._is_tried_last)
        if self._is_tried_last(places[0]) or self._server(places[0]).answers():
            return places
        return [*places[1:], places[0]]

    def _is_tried_last(self, place: Place) -> bool:
        return self._server(place).is_tried_last

    def _server(self, place: Place) -> Server:
        return self._servers.setdefault(place, Server(place))


def _limited(connection: LimitedConnection) -> LimitedConnection:
    try:
        # At once for good, not by a transaction that might be rolled back.
        connection.autocommit = True
        connection.execute(_LIMIT)
        connection.autocommit = False
    except BaseException:
        connection.close()
        raise
    return connection


def deliberate(connection: Connection) -> None:
    """For the rest of a transaction that decides between its statements: the server gives it ten seconds."""
    connection.execute(text(_DELIBERATE))


@contextmanager
def patience(connection: Connection) -> Iterator[None]:
    """For the rest of a transaction of something that takes long: half an hour a statement."""
    driver: Any = connection.connection.driver_connection
    driver.seconds = _PATIENT_SECONDS
    try:
        connection.execute(text(_UNLIMIT))
        yield
    finally:
        del driver.seconds
