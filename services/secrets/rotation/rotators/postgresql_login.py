"""Connections to PostgreSQL that are known to be refused by SQLSTATE, whatever language the server writes in.

libpq keeps no code of an error that comes before login. Asked for errors by SQLSTATE alone before anything is sent, it
puts the code, and none of the server's words, into its message.

A pooler says 08P01 of whatever it refuses: PgBouncer of a wrong password as well as of a server that is away. Which of
them it was is known by how far the login had come, of which libpq writes a trace.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

_ERRORS_BY_SQLSTATE = 3  # PQERRORS_SQLSTATE
_LAST_OF_MESSAGE = re.compile(r":  ([0-9A-Z]{5})\n?\Z")
# The server is not asked for what it is asked, or cannot do it now: connection, read-only or aborted transaction, no
# resources (full), not in the right state, starting up or shutting down (also a time limit), the system, inside.
_AWAY = frozenset({"08", "25", "40", "53", "55", "57", "58", "F0", "XX"})


_PROTOCOL = "08"
_SASL_FINAL = re.compile(rb"^B\t[0-9]+\tAuthentication(SASLFinal|\t 12)", re.MULTILINE)
"""The server's answer to a proof of the password that it takes: so libpq's trace writes it from 18 and before."""
_TRACE_BYTES = 1 << 16


class LoginError(Exception):
    """A connection that was not made."""

    def __init__(self, sqlstate: str | None, libpq_says: str, *, disproved: bool = False) -> None:
        """`disproved`: the server had asked for the password, and did not take the proof of it."""
        super().__init__(sqlstate)
        self.sqlstate = sqlstate
        self.libpq_says = libpq_says
        self.is_away = is_away(sqlstate) and not (disproved and (sqlstate or "").startswith(_PROTOCOL))
        """Whether it says nothing of the login."""


def is_away(sqlstate: str | None) -> bool:
    """Whether an error says nothing of what was asked; None stands for one that no server told."""
    return sqlstate is None or sqlstate[:2] in _AWAY


def connect(seconds: float, **parameters: Any) -> psycopg.Connection[Any]:
    """A connection within so many seconds. Raises LoginError."""
    deadline = time.monotonic() + seconds
    given = {name: value for name, value in parameters.items() if value is not None}
    made: Any = pq.PGconn.connect_start(make_conninfo(**given).encode())
    try:
        _libpq().PQsetErrorVerbosity(ctypes.c_void_p(made.pgconn_ptr), _ERRORS_BY_SQLSTATE)
        with _traced(made) as trace:
            while (status := made.connect_poll()) != pq.PollingStatus.OK:
                _require_going_on(made, status, trace)
                _wait(made.socket, status, deadline)
        made.nonblocking = 1
    except BaseException:
        made.finish()
        raise
    return psycopg.Connection(made)


@contextmanager
def _traced(connection: pq.abc.PGconn) -> Iterator[int]:
    """Where to read what libpq writes of the messages of a login, without what is in them. It is a pipe, since a step
    may write into no file, in memory either; what is more than it holds is left out."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        connection.trace(write)
        connection.set_trace_flags(pq.Trace.SUPPRESS_TIMESTAMPS | pq.Trace.REGRESS_MODE)
        try:
            yield read
        finally:
            connection.untrace()
    finally:
        os.close(write)
        os.close(read)


def _written(trace: int) -> bytes:
    try:
        return os.read(trace, _TRACE_BYTES)
    except BlockingIOError:
        return b""


def _require_going_on(connection: pq.abc.PGconn, status: int, trace: int) -> None:
    if status != pq.PollingStatus.FAILED and connection.status != pq.ConnStatus.BAD:
        return
    said = connection.error_message.decode("utf-8", "replace")
    found = _LAST_OF_MESSAGE.search(said)
    if found is None:
        raise LoginError(None, said)
    # libpq keeps back what it wrote of the last messages until then.
    connection.untrace()
    disproved = connection.used_password and not _SASL_FINAL.search(_written(trace))
    raise LoginError(found[1], "", disproved=disproved)


def _wait(fd: int, status: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN if status == pq.PollingStatus.READING else select.POLLOUT)
    if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
        raise LoginError(None, "timeout expired")


@cache
def _libpq() -> Any:
    """The library that psycopg itself uses, by way of the module that is linked with it."""
    module = sys.modules[pq.PGconn.__module__]
    loaded = getattr(module, "pq", None)
    library: Any = loaded if isinstance(loaded, ctypes.CDLL) else ctypes.CDLL(module.__file__)
    library.PQsetErrorVerbosity.restype = ctypes.c_int
    return library
