"""Whether a PostgreSQL server answers at all: one that hangs is told from one that is slow, within about a second.

The kernel of a server that hangs goes on taking connections and acknowledging what is sent. So it is asked for the one
byte that every PostgreSQL, and every pooler before one, answers whoever asks for TLS: before anybody has logged in.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable

Place = tuple[str, str]
"""A server: host, or the folder of its Unix sockets, and port."""

ANSWER_SECONDS = 0.9
"""How long a server may take for that byte."""

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_FRESH_SECONDS = 0.2
_TRIED_LAST_SECONDS = 15.0


class Server:
    """One server, as all connections of an engine know it."""

    def __init__(
        self, place: Place, seconds: float = ANSWER_SECONDS, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """It hangs if it does not answer within so many seconds."""
        self._place = place
        self._seconds = seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._answered = True
        self._slow_at = float("-inf")
        self.silent_at = float("-inf")
        """When it last answered nobody: connections that are older are of no use."""

    def note_slow(self) -> None:
        """It did not answer on a connection that it has, or gave none in time."""
        self._slow_at = self._monotonic()

    @property
    def is_tried_last(self) -> bool:
        """Whether it did not answer of late: each try costs seconds."""
        return self._monotonic() < self._slow_at + _TRIED_LAST_SECONDS

    def answers(self) -> bool:
        """Asks it; who asks meanwhile is told the same. One that refuses connections answers."""
        asked = self._monotonic()
        with self._lock:
            if self._looked_at < asked - _FRESH_SECONDS:
                self._answered = _answers(self._place, self._seconds)
                self._looked_at = self._monotonic()
                if not self._answered:
                    self.silent_at = self._slow_at = self._looked_at
            return self._answered


def _answers(place: Place, seconds: float) -> bool:
    try:
        with _connected(place, seconds) as connection:
            connection.settimeout(seconds)
            connection.sendall(_SSL_REQUEST)
            connection.recv(1)
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def _connected(place: Place, seconds: float) -> socket.socket:
    host, port = place
    if not host.startswith(("/", "@")):
        return socket.create_connection((host, int(port)), timeout=seconds)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(seconds)
        path = f"{host}/.s.PGSQL.{port}"
        connection.connect(f"\0{path[1:]}" if host.startswith("@") else path)
    except BaseException:
        connection.close()
        raise
    return connection
