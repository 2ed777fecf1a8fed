"""Frames that no client of gRPC's sends, to the native listener: what comes through to Python is whole and well-formed,
and nobody else notices.

`STRONGROOM_FUZZ_SECONDS` says for how long, `STRONGROOM_FUZZ_SEED` chooses which.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import grpc
import pytest

from bench.echo_server import PATH, echo_service, request, response
from deploy.dev import topology
from services.runtime.config import Listeners
from services.runtime.requests import wire
from services.runtime.rpc.admission import Headers, stranger
from services.runtime.rpc.server import _port
from tests.support.listening import ENGINES

SECONDS = float(os.environ.get("STRONGROOM_FUZZ_SECONDS", "2"))
SEED = int(os.environ.get("STRONGROOM_FUZZ_SEED", "1"))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_KINDS = 12
_END_HEADERS, _END_STREAM = 4, 1
_BETWEEN = 100


class Seen:
    """What came through."""

    def __init__(self) -> None:
        self.calls = 0
        self.wrong: list[object] = []

    def __call__(self, asked: Any, context: grpc.ServicerContext) -> Any:
        """Echoes, and looks at all that it has."""
        self.calls += 1
        for name, value in context.invocation_metadata():
            if not isinstance(name, str) or isinstance(value, bytes) is not name.endswith("-bin"):
                self.wrong.append((name, value))
        left = context.time_remaining()
        if not isinstance(context.peer(), str) or not (left is None or left >= 0):
            self.wrong.append((context.peer(), left))
        return response(b"" if asked is wire.UNREADABLE else asked.payload)


class Frames:
    """Sequences of frames, most of them nearly right."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def connection(self) -> bytes:
        """What one connection says."""
        pieces = [PREFACE, frame(_SETTINGS, 0, 0, self._settings())]
        for stream in range(1, 2 * self._chance.randint(1, 6), 2):
            pieces.append(frame(_HEADERS, self._flags(_END_HEADERS), stream, self._headers()))
            pieces += [frame(_DATA, 0, stream, part) for part in self._parts()]
            if self._seldom():
                pieces.append(frame(self._chance.randrange(_KINDS), self._byte(), stream, self._noise(16)))
            pieces.append(frame(_DATA, self._flags(_END_STREAM), stream, b""))
        said = bytearray(b"".join(pieces))
        if self._seldom():
            for _ in range(self._chance.randint(1, 4)):
                said[self._chance.randrange(len(PREFACE), len(said))] = self._byte()
        return bytes(said)

    def _settings(self) -> bytes:
        pair = struct.pack(">HI", self._chance.randint(0, 8), self._chance.getrandbits(32))
        return pair if self._seldom() else b""

    def _headers(self) -> bytes:
        named = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", PATH.encode() if not self._seldom() else self._noise(20)),
            (b":authority", b"x"),
            (b"content-type", b"application/grpc+proto" if not self._seldom() else self._noise(8)),
            (b"te", b"trailers"),
        ]
        wrong = (b"-1S", b"0n", b"1m", self._noise(6))
        if self._chance.random() < 0.5:
            timeout = self._chance.choice(wrong if self._seldom() else (b"10S", b"99999999H"))
            named.append((b"grpc-timeout", timeout))
        if self._seldom():
            named.append((b"grpc-encoding", self._chance.choice((b"identity", b"gzip", self._noise(4)))))
        named += [(self._name(), self._value()) for _ in range(self._chance.randint(0, 4))]
        if self._seldom():
            self._chance.shuffle(named)
        return b"".join(literal(name, value) for name, value in named)

    def _name(self) -> bytes:
        return self._chance.choice((b"a-bin", b"some-bin", b"text")) if not self._seldom() else b"x-" + self._noise(3)

    def _value(self) -> bytes:
        return self._chance.choice((b"AQ", b"AQ==", b"*", b"text", b"")) if not self._seldom() else self._noise(30)

    def _parts(self) -> list[bytes]:
        content = request(self._noise(self._chance.choice((0, 1, 90)))).SerializeToString()
        if self._seldom():
            content = self._noise(40)
        length = self._chance.choice((len(content),) * 8 + (0, len(content) + 1, (1 << 32) - 1))
        whole = bytes([self._chance.choice((0,) * 8 + (1, 2))]) + struct.pack(">I", length) + content
        cut = self._chance.randint(0, len(whole))
        return [whole[:cut], whole[cut:]]

    def _flags(self, usual: int) -> int:
        return self._byte() if self._seldom() else usual

    def _seldom(self) -> bool:
        return self._chance.random() < 0.03

    def _byte(self) -> int:
        return self._chance.getrandbits(8)

    def _noise(self, most: int) -> bytes:
        return self._chance.randbytes(self._chance.randint(0, most))


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2 (RFC 9113 §4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header that nobody needs to remember (RFC 7541 §6.2.2); both parts are short."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


@contextmanager
def served(seen: Seen) -> Iterator[str]:
    """A listener without TLS, so that most of the time goes into frames."""
    address = f"{topology.HOST}:{topology.free_port()}"
    settings = Listeners.model_validate(
        {"engine": "native", "public": {"address": address}, "internal": {"address": address}}
    )

    def recognize(headers: Headers) -> Any:
        return stranger(headers.peer)

    port = _port("public", settings, recognize, None, shared_port=False)
    port.bind(address, None, require_client_certificate=False)
    port.add(echo_service(), {"Echo": seen})
    port.start()
    try:
        yield address
    finally:
        port.stop(0.5)


@pytest.mark.skipif("native" not in ENGINES, reason="the native listener is not built (make native)")
def test_what_comes_through_is_well_formed_and_nobody_else_notices() -> None:
    seen, frames = Seen(), Frames(random.Random(SEED))
    with served(seen) as address:
        host, port = address.rsplit(":", 1)
        ends, connections = time.monotonic() + SECONDS, 0
        with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PATH)
            while time.monotonic() < ends or not connections:
                with ExitStack() as open_ones:
                    for _ in range(_BETWEEN):
                        connection = open_ones.enter_context(socket.create_connection((host, int(port)), timeout=1))
                        with suppress(OSError):
                            connection.sendall(frames.connection())
                    # So that what can be answered is, before all of them are gone.
                    time.sleep(0.1)
                connections += _BETWEEN
                # A listener that broke, or whose threads did, answers no more.
                method(request(b"well").SerializeToString(), timeout=10)
    assert seen.wrong == []
    # Many were right, and came.
    assert seen.calls > connections / 4
