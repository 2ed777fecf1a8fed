"""Servers as a hostile tenant runs them, each on a port of 127.0.0.1."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import asyncssh

Behaviour = Callable[[socket.socket], None]

_MUTE_SECONDS = 600.0


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[int]:
    """A port on which every connection is treated so."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    connections: list[socket.socket] = []

    def treat(connection: socket.socket) -> None:
        with suppress(OSError):
            behaviour(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threading.Thread(target=treat, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        with ExitStack() as stack:
            for open_socket in (listener, *connections):
                stack.callback(open_socket.close)


def mute(connection: socket.socket) -> None:
    """Reads, and says nothing."""
    while connection.recv(65_536):
        pass


def drip(connection: socket.socket) -> None:
    """A byte now and then, each well within any timeout of a single read."""
    while True:
        connection.sendall(b"+")
        time.sleep(0.3)


def endless(connection: socket.socket) -> None:
    """An answer that is announced as 700 MiB, and does not even end there."""
    connection.recv(65_536)
    connection.sendall(b"$734003200\r\n")
    while True:
        connection.sendall(bytes(65_536))


def postgresql_that_falls_silent(connection: socket.socket) -> None:
    """Refuses `app`, accepts everybody else, and answers no query."""
    if b"app\0" in connection.recv(65_536):
        connection.sendall(_postgresql(b"E", b"SFATAL\0VFATAL\0C28P01\0Mno\0\0"))
        return
    settings = b"".join(
        _postgresql(b"S", name + b"\0" + value + b"\0")
        for name, value in ((b"server_version", b"15.0"), (b"client_encoding", b"UTF8"))
    )
    ready = _postgresql(b"K", struct.pack(">II", 1, 1)) + _postgresql(b"Z", b"I")
    connection.sendall(_postgresql(b"R", struct.pack(">I", 0)) + settings + ready)
    mute(connection)


def mysql_that_falls_silent(connection: socket.socket) -> None:
    """Refuses `app`, accepts everybody else, and answers no query, over MySQL's protocol."""
    flags = 0x0008A205
    greeting = (
        b"\x0a8.0.0\0" + struct.pack("<I", 1) + b"a" * 8 + b"\0" + struct.pack("<H", flags & 0xFFFF) + b"\x2d"
        + struct.pack("<HH", 2, flags >> 16) + b"\x15" + bytes(10) + b"b" * 12 + b"\0mysql_native_password\0"
    )  # fmt: skip
    connection.sendall(_mysql(0, greeting))
    if b"app\0" in connection.recv(65_536):
        connection.sendall(_mysql(2, b"\xff" + struct.pack("<H", 1045) + b"#28000no"))
        return
    connection.sendall(_mysql(2, b"\0\0\0\x02\0\0\0"))
    mute(connection)


def redis_that_falls_silent(connection: socket.socket) -> None:
    """Accepts every login, and says nothing to what changes something."""
    while received := connection.recv(65_536):
        if b"ACL" in received:
            mute(connection)
        connection.sendall(b"+PONG\r\n" if b"PING" in received else b"+OK\r\n" * max(received.count(b"*"), 1))


def obliging_redis(connection: socket.socket) -> None:
    """Agrees to everything."""
    while received := connection.recv(65_536):
        connection.sendall(b"+PONG\r\n" if b"PING" in received else b"+OK\r\n" * max(received.count(b"*"), 1))


@contextmanager
def sftp_that_falls_silent(host_key: asyncssh.SSHKey) -> Iterator[int]:
    """An SSH server that lets everybody in, and whose SFTP never answers."""

    class _Server(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return False

    class _Sftp(asyncssh.SFTPServer):
        async def stat(self, _path: bytes) -> asyncssh.SFTPAttrs:
            await asyncio.sleep(_MUTE_SECONDS)
            return asyncssh.SFTPAttrs()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> asyncssh.SSHAcceptor:
        return await asyncssh.create_server(_Server, "127.0.0.1", 0, server_host_keys=[host_key], sftp_factory=_Sftp)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    try:
        yield server.get_port()
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def _postgresql(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack(">I", len(content) + 4) + content


def _mysql(number: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "little") + bytes([number]) + content
