"""A client of HTTP/2 that does what no library lets it: calls whose message never comes, and worse.

It writes frames and looks only at the kinds of those that come back; header blocks are literals, which needs no table.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 0x1, 0x1, 0x4
_CANCEL = 8
_FRAME = struct.Struct(">BHBBI")
_MAX_STREAMS_SETTING, _WINDOW_SETTING = 3, 4
_FIRST_WINDOW = 65_535
_LARGEST_FRAME = 16_384


class RawConnection:
    """One connection; a context manager. `ended` are the streams that the server has ended."""

    def __init__(
        self,
        address: str,
        trust: Path | None = None,
        certificate: tuple[Path, Path] | None = None,
        *,
        window: int | None = None,
    ) -> None:
        """TLS unless `trust` is None; `certificate` is the client's with its key. `window` bytes of an answer are taken
        before more is asked for; by default as HTTP/2 has it."""
        host, _, port = address.rpartition(":")
        plain = socket.create_connection((host, int(port)), timeout=30)
        if trust is None:
            self._socket: socket.socket = plain
        else:
            context = ssl.create_default_context(cafile=str(trust))
            context.check_hostname = False
            context.set_alpn_protocols(["h2"])
            if certificate is not None:
                context.load_cert_chain(*certificate)
            self._socket = context.wrap_socket(plain, server_hostname="localhost")
        self._authority = address
        self._next = 1
        self._lock = threading.Lock()
        # What the server takes of data: on the connection (stream 0), and beyond its first window on each stream.
        self._windows: defaultdict[int, int] = defaultdict(int, {0: _FIRST_WINDOW})
        self._first_window = _FIRST_WINDOW
        self.ended: set[int] = set()
        self.resets = 0
        self.closed = threading.Event()
        settings = b"" if window is None else struct.pack(">HI", _WINDOW_SETTING, window)
        self._socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, settings))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def call(
        self, path: str, headers: Mapping[str, str] | None = None, data: bytes | None = None, *, ends: bool = False
    ) -> int:
        """Begins a call, with so much of its message, and says that this is all if it `ends`; answers the stream."""
        with self._lock:
            stream, self._next = self._next, self._next + 2
            fields = {
                ":method": "POST",
                ":scheme": "https",
                ":path": path,
                ":authority": self._authority,
                "content-type": "application/grpc",
                "te": "trailers",
                **(headers or {}),
            }
            block = b"".join(_literal(name, value) for name, value in fields.items())
            frames = _frame(_HEADERS, _END_HEADERS | (_END_STREAM if ends and data is None else 0), stream, block)
            if data is not None:
                frames += _frame(_DATA, _END_STREAM if ends else 0, stream, data)
            self._send(frames)
        return stream

    def send(self, stream: int, data: bytes, *, ends: bool = False) -> None:
        """More of a call's message."""
        with self._lock:
            self._send(_frame(_DATA, _END_STREAM if ends else 0, stream, data))

    def send_some(self, stream: int, length: int) -> int:
        """Up to so many bytes of zeros, as much as the server lets a client send now; how many that were."""
        with self._lock:
            most = min(self._windows[0], self._first_window + self._windows[stream], length, _LARGEST_FRAME)
            if most > 0:
                self._windows[0] -= most
                self._windows[stream] -= most
                self._send(_frame(_DATA, 0, stream, bytes(most)))
        return max(most, 0)

    def cancel(self, stream: int) -> None:
        """Ends a call."""
        with self._lock:
            self._send(_frame(_RESET, 0, stream, struct.pack(">I", _CANCEL)))

    def _send(self, frames: bytes) -> None:
        try:
            self._socket.sendall(frames)
        except OSError:
            self.closed.set()

    def _receive(self) -> bytes:
        """What has come, once something has. A TLS connection is for one thread at a time."""
        while True:
            select.select([self._socket], [], [])
            with self._lock:
                self._socket.setblocking(False)
                try:
                    return self._socket.recv(65536)
                except (ssl.SSLWantReadError, BlockingIOError):
                    pass
                finally:
                    self._socket.setblocking(True)

    def _read(self) -> None:
        buffer = bytearray()
        try:
            while received := self._receive():
                buffer += received
                while len(buffer) >= _FRAME.size:
                    high, low, kind, flags, stream = _FRAME.unpack_from(buffer)
                    end = _FRAME.size + (high << 16 | low)
                    if len(buffer) < end:
                        break
                    self._take(kind, flags, stream, bytes(buffer[_FRAME.size : end]))
                    del buffer[:end]
        except (OSError, ValueError):
            pass
        self.closed.set()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _WINDOW:
            with self._lock:
                self._windows[stream] += struct.unpack(">I", payload)[0]
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            with self._lock:
                if kind == _SETTINGS:
                    settings = dict(struct.iter_unpack(">HI", payload))
                    self._first_window = settings.get(_WINDOW_SETTING, self._first_window)
                self._send(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind == _RESET or (kind in (_HEADERS, _DATA) and flags & _END_STREAM):
            self.resets += kind == _RESET
            self.ended.add(stream)


def message(content: bytes, length: int | None = None) -> bytes:
    """A gRPC message, or the beginning of one that is announced with `length` bytes."""
    return struct.pack(">BI", 0, len(content) if length is None else length) + content


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _FRAME.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    return b"\x00" + _string(name.encode()) + _string(value.encode())


def _string(text: bytes) -> bytes:
    """A string as HPACK has it, not compressed."""
    length, prefix = len(text), 127
    if length < prefix:
        return bytes([length]) + text
    rest, encoded = length - prefix, bytearray([prefix])
    while rest >= 128:
        encoded.append(rest % 128 + 128)
        rest //= 128
    encoded.append(rest)
    return bytes(encoded) + text
