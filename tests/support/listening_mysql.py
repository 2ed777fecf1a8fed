"""A MySQL or MariaDB server of a hostile tenant's: it agrees to everything, and listens."""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import closing, suppress
from dataclasses import dataclass, field

_SSL, _PLUGIN_AUTH = 0x0800, 0x80000
_FLAGS = 0x0008 | 0x0200 | 0x8000 | _PLUGIN_AUTH
_NOT_ALLOWED, _GIVE_CURRENT = 1142, 3892


@dataclass
class ListeningMysql:
    """What one server says of itself, and what it has heard, decrypted."""

    version: str = "8.0.36"
    plugin: str = "mysql_native_password"
    """Of every user; empty where nobody may read it."""
    tls: ssl.SSLContext | None = None
    heard: bytes = b""
    statements: list[str] = field(default_factory=list)

    def __call__(self, connection: socket.socket) -> None:
        """Serves one connection."""
        with suppress(OSError), closing(_Session(self, connection)) as session:
            session.serve()


class _Session:
    def __init__(self, server: ListeningMysql, connection: socket.socket) -> None:
        self._server = server
        self._socket = connection

    def serve(self) -> None:
        flags = _FLAGS | (_SSL if self._server.tls is not None else 0)
        greeting = (
            b"\x0a" + self._server.version.encode() + b"\0" + bytes(4) + b"saltsalt\0"
            + struct.pack("<HBHHB", flags & 0xFFFF, 255, 2, flags >> 16, 21)
        )  # fmt: skip
        self._send(0, greeting + bytes(10) + b"saltsaltsalt\0mysql_native_password\0")
        number, _ = self._receive()
        if self._server.tls is not None:
            self._socket = self._server.tls.wrap_socket(self._socket, server_side=True)
            number, _ = self._receive()
        self._agree(number + 1)
        while True:
            _, command = self._receive()
            if command[:1] != b"\x03":
                return
            self._answer(command[1:].decode())

    def close(self) -> None:
        self._socket.close()

    def _answer(self, statement: str) -> None:
        server = self._server
        server.statements.append(statement)
        if "VERSION()" in statement:
            self._rows([server.version])
        elif "CURRENT_USER()" in statement:
            self._rows(["boss@%", "NONE"][: statement.count("()")])
        elif "FROM mysql.user" in statement and "User_attributes" not in statement:
            if not server.plugin:
                self._refuse(1, _NOT_ALLOWED)
            elif "_clone" in statement and not any("CREATE USER" in one for one in server.statements):
                self._rows()
            else:
                columns = statement.partition(" FROM ")[0].count(",")
                self._rows([server.plugin, *[""] * columns])
        elif "User_attributes" in statement or "JSON_EXISTS" in statement or "@@" in statement:
            self._rows(["" if "User" in statement else "0"])
        elif statement.startswith("SELECT"):
            self._rows()
        elif statement.startswith("SET PASSWORD =") and "REPLACE" not in statement and "Maria" not in server.version:
            self._refuse(1, _GIVE_CURRENT)
        else:
            self._agree(1)

    def _rows(self, *rows: list[str]) -> None:
        width = len(rows[0]) if rows else 1
        column = b"\3def\0\0\0\1c\0\x0c" + struct.pack("<HIBHBH", 45, 1024, 0xFD, 0, 0, 0)
        end = b"\xfe\0\0\2\0"
        packets = [bytes([width]), *[column] * width, end]
        packets += [b"".join(bytes([len(value)]) + value.encode() for value in row) for row in rows]
        framed = [_frame(number, packet) for number, packet in enumerate([*packets, end], 1)]
        self._socket.sendall(b"".join(framed))

    def _agree(self, number: int) -> None:
        self._send(number, b"\0\0\0\2\0\0\0")

    def _refuse(self, number: int, error: int) -> None:
        self._send(number, b"\xff" + struct.pack("<H", error) + b"#28000no")

    def _send(self, number: int, content: bytes) -> None:
        self._socket.sendall(_frame(number, content))

    def _receive(self) -> tuple[int, bytes]:
        head = self._exactly(4)
        return head[3], self._exactly(int.from_bytes(head[:3], "little"))

    def _exactly(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            part = self._socket.recv(size - len(received))
            if not part:
                raise ConnectionError
            received += part
        self._server.heard += received
        return received


def _frame(number: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "little") + bytes([number]) + content
