"""What follows a request to a witness is never taken for another one, whatever a web server before it thinks."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from strongroom.cli.witness_server import WitnessServer
from strongroom.tlog.witness import Witness, WitnessState

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[tuple[str, int]]:
    witness = Witness("witness.example/w", WitnessState(tmp_path), [], time.time)
    server = WitnessServer(witness, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield "127.0.0.1", server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("verb", [b"GET /x/checkpoint", b"POST /add-checkpoint", b"POST /elsewhere"])
@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: %d\r\n" % len(HIDDEN),
        b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(HIDDEN),
        b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"A: b\n\n" + HIDDEN[:-2],
        b"Connection: keep-alive\r\n",
    ],
)
def test_a_connection_has_one_answer(address: tuple[str, int], verb: bytes, fields: bytes) -> None:
    with socket.create_connection(address, 10) as connection:
        told = b""
        with suppress(ConnectionError):
            connection.sendall(verb + b" HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n")
            connection.sendall(HIDDEN)
            while part := connection.recv(4096):
                told += part
    assert told.count(b"HTTP/1.") <= 1
