"""What one caller can have of the native listener: calls that are taken back, answers that are not taken, connections,
sessions of TLS."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bench.abuse.raw_http2 import RawConnection, message
from bench.echo_server import PATH, request
from tests.support.clients import until
from tests.support.listening import ENGINES, Listening, echo, listening

pytestmark = pytest.mark.skipif("native" not in ENGINES, reason="the native listener is not built (make native)")

_LISTENERS = ("public", "internal", "health")
_MOST_CALLS = 20_000
_SECONDS = 45.0
"""Longer than an answer may wait to be taken."""


def connected(running: Listening, listener: str, window: int | None = None) -> RawConnection:
    """A connection to one of a server's listeners."""
    trust = None if listener == "health" else running.trust
    return RawConnection(running.address(listener), trust, running.certificate(listener), window=window)


@pytest.mark.parametrize("listener", _LISTENERS)
def test_who_takes_refused_calls_back_again_and_again_is_cut_off(tmp_path: Path, listener: str) -> None:
    with listening(tmp_path, engine="native") as running, connected(running, listener) as hostile:
        for _ in range(_MOST_CALLS):
            hostile.cancel(hostile.call("/unknown.v1.Service/Method"))
            if hostile.closed.is_set():
                break
        assert hostile.closed.is_set()
        with running.channel("public") as channel:
            echo(channel)


def test_who_takes_no_answer_however_small_is_cut_off(tmp_path: Path) -> None:
    asked = message(request(b"x" * 1_000).SerializeToString())
    with listening(tmp_path, engine="native") as running, connected(running, "public", window=0) as hostile:
        for _ in range(100):
            hostile.call(PATH, {}, asked, ends=True)
        assert not hostile.closed.wait(1.0)
        assert hostile.closed.wait(_SECONDS)


def test_no_address_has_all_connections(tmp_path: Path) -> None:
    """What is open and asks nothing gives way to others, that of whoever has most."""
    with ExitStack() as stack:
        limits: dict[str, Any] = {"max_connections": 8, "max_address_connections": 8}
        running = stack.enter_context(listening(tmp_path, engine="native", **limits))
        host, port = running.address("health").rsplit(":", 1)
        # One call goes on, on the oldest of them.
        greedy = [stack.enter_context(connected(running, "health"))]
        greedy[0].call("/grpc.health.v1.Health/Check")
        greedy += [stack.enter_context(connected(running, "health")) for _ in range(7)]
        # By then the server has heard of the call.
        time.sleep(1.0)
        for number in count(1):
            others = socket.create_connection((host, int(port)), source_address=(f"127.0.0.{number + 1}", 0))
            stack.enter_context(others)
            others.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4" + bytes(5))
            # Its settings: it has a place.
            others.settimeout(10)
            assert others.recv(9)
            if number == 3:
                break
        until(lambda: sum(connection.closed.is_set() for connection in greedy) == 3, 10)
        assert not greedy[0].closed.is_set()
        with running.channel("public") as channel:
            echo(channel)


@pytest.mark.parametrize("listener", ["public", "internal"])
def test_no_session_of_tls_is_resumed(tmp_path: Path, listener: str) -> None:
    """It would bring the certificate of before along, which nobody verifies again."""
    with listening(tmp_path, engine="native") as running:
        host, port = running.address(listener).rsplit(":", 1)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.create_default_context(cafile=str(running.trust))
            context.check_hostname = False
            context.set_alpn_protocols(["h2"])
            context.minimum_version = context.maximum_version = version
            certificate = running.certificate(listener)
            if certificate is not None:
                context.load_cert_chain(*certificate)
            session = None
            for _ in range(2):
                with (
                    socket.create_connection((host, int(port)), timeout=10) as plain,
                    context.wrap_socket(plain, server_hostname="localhost", session=session) as secured,
                ):
                    assert secured.recv(9)
                    assert not secured.session_reused
                    session = secured.session
