"""Connections to PostgreSQL on which nothing waits for long: neither for a server that hangs, nor for the lock of a
process that does.

A server that hangs is not noticed by TCP: the kernel goes on acknowledging. So each statement has a limit on this side,
after which its connection is cut. What a process that hangs holds locked is given back by the server, which ends
transactions that do nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, text

RV = TypeVar("RV")
Place = tuple[str, str]
"""A server: host and port."""

STATEMENT_SECONDS = 3.0
"""How long the server may take for one statement."""

_PATIENT_SECONDS = 1_800.0
_INTERRUPT_SECONDS = 0.1
_SEVERAL = 2
# A connection that took so long waited for a server that did not answer.
_SLOW_SECONDS = 1.5
_TRIED_LAST_SECONDS = 15.0
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
    when_silent: Callable[[], None] = staticmethod(lambda: None)
    """Told when the server did not answer."""

    def wait(self, gen: PQGen[RV], interval: float = _INTERRUPT_SECONDS, timeout: float | None = None) -> RV:
        """Runs whatever is done on the connection; every statement, BEGIN and COMMIT. Raises OperationalError when the
        server has not answered in time: what became of the statement is not known."""
        try:
            return super().wait(gen, interval, self.seconds if timeout is None else timeout)
        except psycopg.OperationalError as error:
            if error.sqlstate is None and self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                # Its answer may come yet, and must not be taken for that of the next statement.
                self.close()
                self.when_silent()
                raise psycopg.OperationalError("the server did not answer in time") from None
            raise


class Connecting:
    """Opens the connections of one engine, as a listener of SQLAlchemy's `do_connect`. Of several servers, those that
    did not answer lately are tried last: each try costs seconds."""

    def __init__(self) -> None:
        self._silent: dict[Place, float] = {}

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
                self._note(passed_over)
        connection.when_silent = partial(self._note, place)
        return _limited(connection)

    def _ordered(self, keywords: dict[str, Any]) -> list[Place]:
        """The servers in the order to try them; none where there is but one."""
        hosts, ports = (str(keywords.get(name, "")).split(",") for name in ("host", "port"))
        if len(hosts) < _SEVERAL or len(hosts) != len(ports):
            return []
        now = time.monotonic()
        return sorted(zip(hosts, ports, strict=True), key=lambda place: self._silent.get(place, 0.0) > now)

    def _note(self, place: Place) -> None:
        self._silent[place] = time.monotonic() + _TRIED_LAST_SECONDS


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
