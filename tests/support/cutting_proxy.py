"""Stands before a server and cuts a connection at a message, before the server has it or before its answer."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

from deploy.dev.topology import HOST

_CHUNK = 1 << 16
_COMMIT = b"COMMIT"
_ANSWER_SECONDS = 2.0


class CuttingProxy:
    """Listens at `port` and connects to `target`. A context manager."""

    def __init__(self, port: int, target: int, *, source: str = HOST) -> None:
        """`source` is the address that the server sees."""
        self.port = port
        self._source = source
        self.cuts = 0
        self.refuses = False
        """Whether new connections are closed at once."""
        self._target = target
        self.messages = 0
        self._cuts_at = 0
        self._lets_through = False
        self._commits_with = b""
        self._passing = threading.Event()
        self._passing.set()
        self._open: list[socket.socket] = []
        self._listening = socket.create_server((HOST, port))

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="cutting-proxy", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()

    def hold(self) -> None:
        """Keeps back what clients send, as a server that does not answer."""
        self._passing.clear()

    def let_go(self) -> None:
        """Sends on what was kept back, and what comes."""
        self._passing.set()

    def break_off(self) -> None:
        """Ends every connection, and takes no other, as a server that is gone."""
        self.refuses = True
        while self._open:
            end = self._open.pop()
            with suppress(OSError), end:
                end.shutdown(socket.SHUT_RDWR)

    def cut_at(self, message: int, *, let_through: bool) -> None:
        """Cuts once, at so many messages of clients from now: the server gets that one and its answer is lost, or it
        does not. Over TLS a message is what a client wrote at once."""
        self.messages, self._cuts_at, self._lets_through = 0, message, let_through

    def cut_commit(self, statement: bytes, *, let_through: bool) -> None:
        """Cuts once, at the COMMIT of a transaction of PostgreSQL that has a statement with these words."""
        self._commits_with, self._lets_through = statement, let_through

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                if self.refuses:
                    client.close()
                    continue
                try:
                    server = socket.create_connection((HOST, self._target), source_address=(self._source, 0))
                except OSError:
                    # As it would be without a proxy while nothing listens there.
                    client.close()
                    continue
                self._open += (client, server)
                for work in (self._forward, self._answer):
                    threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        has_it = False
        with suppress(OSError):
            while data := client.recv(_CHUNK):
                self._passing.wait()
                self.messages += 1
                awaited, ends = self._commits_with, _COMMIT in data
                if (has_it and ends and awaited) or self.messages == self._cuts_at:
                    self._commits_with = b""
                    self.cuts += 1
                    # So that no answer can pass before the connection is gone.
                    client.shutdown(socket.SHUT_RDWR)
                    if self._lets_through:
                        server.sendall(data)
                        server.settimeout(_ANSWER_SECONDS)
                        server.recv(_CHUNK)
                    break
                has_it = bool(awaited) and (awaited in data or (has_it and not ends))
                server.sendall(data)
        for end in (client, server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(_CHUNK):
                client.sendall(data)
