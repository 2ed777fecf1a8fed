"""No target is sent a password: a server that asks for it gets none, and its words go no further."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from deploy.dev.topology import HOST
from services.runtime.errors import StrongroomError
from services.secrets.rotation.rotators.database import Driver
from services.secrets.rotation.rotators.mysql import MysqlDriver
from services.secrets.rotation.rotators.postgresql import PostgresqlDriver
from services.secrets.rotation.rotators.ssh import _options
from strongroom.secrets.v1.target_pb2 import TARGET_TLS_DISABLED, DatabaseTarget, TargetAddress

PASSWORD = "hunter2-hunter2"
Talk = Callable[[socket.socket], None]


class Server:
    """Talks to one client, and keeps all that it was sent."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self.heard = b""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            connection, _ = self._listener.accept()
            connection.settimeout(5)
            with connection:
                self._talk(connection)
                while more := connection.recv(4096):
                    self.heard += more
        except OSError:
            return

    def end(self) -> None:
        self._listener.close()
        self._thread.join(10)


@contextmanager
def server(talk: Talk) -> Iterator[Server]:
    started = Server(talk)
    try:
        yield started
    finally:
        started.end()


def postgresql(answer: bytes) -> Talk:
    def talk(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    return talk


def mysql(plugin: bytes, switch: bytes = b"") -> Talk:
    def packet(number: int, content: bytes) -> bytes:
        return struct.pack("<I", len(content))[:3] + bytes([number]) + content

    def talk(connection: socket.socket) -> None:
        # Protocol 41, authentication by plugin.
        flags = 0x0008 | 0x0200 | 0x8000 | 0x80000
        greeting = (
            b"\x0a8.0.36\0" + bytes(4) + b"saltsalt\0" + struct.pack("<HBHHB", flags & 0xFFFF, 255, 2, flags >> 16, 21)
        )
        connection.sendall(packet(0, greeting + bytes(10) + b"saltsaltsalt\0" + plugin + b"\0"))
        if switch:
            connection.recv(4096)
            connection.sendall(packet(2, b"\xfe" + switch + b"\0" + b"Password: "))

    return talk


CASES: list[tuple[Driver, Talk]] = [
    (PostgresqlDriver(), postgresql(b"R" + struct.pack(">II", 8, 3))),
    (PostgresqlDriver(), postgresql(b"R" + struct.pack(">II", 12, 5) + b"salt")),
    # Without any authentication at all it proves nothing either.
    (PostgresqlDriver(), postgresql(b"R" + struct.pack(">II", 8, 0))),
    (MysqlDriver(), mysql(b"mysql_native_password", b"mysql_clear_password")),
    (MysqlDriver(), mysql(b"mysql_native_password", b"dialog")),
    (MysqlDriver(), mysql(b"mysql_native_password", b"mysql_old_password")),
    (MysqlDriver(), mysql(b"mysql_native_password", b"sha256_password")),
    (MysqlDriver(), mysql(b"sha256_password")),
]


@pytest.mark.parametrize(("driver", "talk"), CASES)
def test_a_server_that_asks_for_the_password_gets_none(driver: Driver, talk: Talk) -> None:
    with server(talk) as hostile:
        address = TargetAddress(host=HOST, port=hostile.port, tls=TARGET_TLS_DISABLED)
        target = DatabaseTarget(address=address, username="app")
        with pytest.raises(StrongroomError) as caught, driver.login(target, "app", PASSWORD, HOST):
            pass
    assert caught.value.reason in ("TARGET_UNREACHABLE", "TARGET_LOGIN_REFUSED")
    assert PASSWORD.encode() not in hostile.heard


def test_what_a_server_says_goes_no_further() -> None:
    said = b"SFATAL\0VFATAL\0C28P01\0Mno: h u n t e r 2 68756E746572\0\0"
    with server(postgresql(b"E" + struct.pack(">I", len(said) + 4) + said)) as hostile:
        address = TargetAddress(host=HOST, port=hostile.port, tls=TARGET_TLS_DISABLED)
        target = DatabaseTarget(address=address, username="app")
        with pytest.raises(StrongroomError) as caught, PostgresqlDriver().login(target, "app", PASSWORD, HOST):
            pass
    assert caught.value.reason == "TARGET_LOGIN_REFUSED"
    assert caught.value.message == f"login of app at {HOST}: SQLSTATE 28P01"


BLOB = "AAAAC3NzaC1lZDI1NTE5AAAAINiKvBRMhRQBPJJZRUXz/TVQrNtqTPVGmuJbqUPqaYDb"


@pytest.mark.parametrize(
    "options",
    [
        "",
        "no-pty ",
        'command="ssh-keyscan host" ',
        'command="echo ssh-ed25519 AAAA",no-pty\t ',
        'from="10.0.0.0/8",command="a \\" ecdsa-sha2 b" ',
        '  restrict,command="sk-thing" ',
        f'command="ssh-ed25519 {BLOB}" ',
        'environment="A=ünï",no-pty ',
    ],
)
def test_options_of_a_key_are_kept_byte_for_byte(options: str) -> None:
    assert _options(f"{options}ssh-ed25519 {BLOB} ssh-rsa comment", BLOB) == options


@pytest.mark.parametrize(
    "line", ["", f"# ssh-ed25519 {BLOB}x", f"ssh-ed25519 {BLOB}A", f'command="ssh-ed25519 {BLOB}"', BLOB, "ssh-ed25519"]
)
def test_another_line_is_not_the_keys(line: str) -> None:
    assert _options(line, BLOB) is None
