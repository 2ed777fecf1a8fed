"""Who reads the log over HTTP, slowly or as fast as it goes, takes little of the process that writes it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from ipaddress import ip_network
from types import SimpleNamespace
from typing import cast

import pytest

from services.audit.handlers import http_tiles
from services.audit.handlers.forwarded import Proxies
from services.audit.handlers.http_tiles import HttpTiles
from services.audit.logs.logs import Logs
from services.runtime.access.quotas import Limit
from services.runtime.errors import Reason, StrongroomError
from tests.support.clients import until

SECONDS = 10.0
GET = b"GET /main/checkpoint HTTP/1.1\r\nHost: x\r\n\r\n"
# As it would come from elsewhere.
ELSEWHERE = "127.0.0.9"


class KeptLogs:
    """A log with a checkpoint and a tile, which counts how many ask at once."""

    def __init__(self) -> None:
        self.at_once = self.most = self.asked = 0
        self.go = threading.Event()
        self.go.set()
        self._lock = threading.Lock()

    def named(self, name: str) -> object:
        assert name.endswith("main")
        return SimpleNamespace(transparency=SimpleNamespace(checkpoint=self._checkpoint, tile=self._tile))

    def _checkpoint(self) -> object:
        with self._lock:
            self.at_once += 1
            self.asked += 1
            self.most = max(self.most, self.at_once)
        self.go.wait(SECONDS)
        with self._lock:
            self.at_once -= 1
        return SimpleNamespace(note=b"note")

    def _tile(self, path: str) -> bytes:
        if path == "tile/broken":
            raise RuntimeError(path)
        raise StrongroomError(Reason.TILE_NOT_FOUND, path)


@pytest.fixture
def logs() -> KeptLogs:
    return KeptLogs()


@pytest.fixture
def address(logs: KeptLogs) -> Iterator[tuple[str, int]]:
    server = HttpTiles("127.0.0.1:0", cast("Logs", logs))
    server.start()
    yield server.address
    server.stop()


def connected(address: tuple[str, int], source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(address, SECONDS, source_address=(source, 0))


def answer(connection: socket.socket, request: bytes = GET) -> bytes:
    connection.sendall(request)
    return connection.recv(4096)


def test_requests_are_answered_on_one_connection(address: tuple[str, int]) -> None:
    with connected(address) as connection:
        for _ in range(3):
            told = answer(connection)
            assert told.startswith(b"HTTP/1.1 200 ")
            assert told.endswith(b"\r\n\r\nnote")
        assert answer(connection, b"HEAD /main/checkpoint HTTP/1.1\r\n\r\n").endswith(b"\r\n\r\n")
        assert answer(connection, b"GET /main/tile/0/999 HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 404 ")
        # Two at once, the second in parts.
        connection.sendall(GET + GET[:20])
        connection.sendall(GET[20:])
        whole = b""
        while whole.count(b"note") < 2:
            whole += connection.recv(4096)
        assert answer(connection, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")).endswith(b"note")
        assert connection.recv(1) == b""


GARBAGE = (
    b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\r\n\r\n",
    b"GET\r\n\r\n",
    b"BREW /pot HTTP/1.1\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /main/tile/broken HTTP/1.1\r\n\r\n",
    b"a" * 20_000,
    b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 500 + b"\r\n",
)


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: garbage[:8].hex())
def test_garbage_is_refused_or_hung_up_on(address: tuple[str, int], garbage: bytes) -> None:
    with connected(address) as connection:
        told = b""
        with suppress(OSError):
            told = answer(connection, garbage)
        assert not told or any(b"%d" % status in told for status in (400, 431, 500, 501, 505))
    with connected(address) as connection:
        assert answer(connection).endswith(b"note")


HIDDEN = b"GET /main/tile/0/999 HTTP/1.1\r\nHost: x\r\n\r\n"
# Behind each, a web server may see something else than a request of its own.
UNCLEAR = {
    "a body": b"Content-Length: %d\r\n" % len(HIDDEN),
    "a body of another spelling": b"content-length:%d\r\n" % len(HIDDEN),
    "two lengths": b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(HIDDEN),
    "a list of lengths": b"Content-Length: 0, %d\r\n" % len(HIDDEN),
    "a length with a sign": b"Content-Length: +0\r\n",
    "a length of many zeros": b"Content-Length: 00\r\n",
    "chunks": b"Transfer-Encoding: chunked\r\n",
    "chunks of another spelling": b"TRANSFER-ENCODING:\tchunked\r\n",
    "no chunks": b"Transfer-Encoding: identity\r\n",
    "a blank before the colon": b"Content-Length : %d\r\n" % len(HIDDEN),
    "a field that goes on": b"A: b\r\n Content-Length: 5\r\n",
    "a line that is no field": b"A\r\nContent-Length: 5\r\n",
    "a bare line feed": b"A: b\nContent-Length: 5\r\n",
    "an end of bare line feeds": b"A: b\n\n" + HIDDEN[:-2],
    "a bare carriage return": b"A: b\rContent-Length: 5\r\n",
    "a zero": b"A: \0\r\n",
    "an expectation": b"Expect: 100-continue\r\n",
}


@pytest.mark.parametrize("what", UNCLEAR)
def test_nothing_behind_an_unclear_head_is_taken_for_a_request(address: tuple[str, int], what: str) -> None:
    with connected(address) as connection:
        # What comes behind may be another client's request, or nobody's.
        connection.sendall(b"GET /main/checkpoint HTTP/1.1\r\nHost: x\r\n" + UNCLEAR[what] + b"\r\n")
        told = b""
        with suppress(ConnectionResetError):
            connection.sendall(HIDDEN)
            while part := connection.recv(4096):
                told += part
    assert told.count(b"HTTP/1.1 ") <= 1
    assert told.startswith(b"HTTP/1.1 400 ") or not told


@pytest.mark.parametrize("line", [b"GET /main/checkpoint", b"GET /main/checkpoint HTTP/0.9", b"GET  / HTTP/1.1"])
def test_an_unclear_request_line_is_the_last(address: tuple[str, int], line: bytes) -> None:
    with connected(address) as connection:
        assert answer(connection, line + b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        assert connection.recv(1) == b""


def test_an_empty_body_is_none(address: tuple[str, int]) -> None:
    with connected(address) as connection:
        for field in (b"Content-Length: 0", b"content-length:0 ", b"X-Content-Length: 5", b"Expected: 1"):
            told = answer(connection, GET.replace(b"Host: x", b"Host: x\r\n" + field))
            assert told.endswith(b"note"), field


def test_the_slow_have_no_thread_and_leave_room(address: tuple[str, int]) -> None:
    before = threading.active_count()
    with ExitStack() as stack:
        for number in range(400):
            slow = stack.enter_context(connected(address, f"127.0.1.{1 + number % 40}"))
            slow.sendall(GET[: 1 + number % 30])
        # The threads that answer, at most.
        assert threading.active_count() <= before + 2
        with connected(address, ELSEWHERE) as quick:
            assert answer(quick).endswith(b"note")


def test_an_address_has_so_many_connections(address: tuple[str, int]) -> None:
    with ExitStack() as stack:
        other = stack.enter_context(connected(address, ELSEWHERE))
        many = [stack.enter_context(connected(address)) for _ in range(http_tiles._OF_ADDRESS + 3)]
        assert [one.recv(1) for one in many[:3]] == [b"", b"", b""]
        assert answer(many[3]).endswith(b"note")
        assert answer(other).endswith(b"note")


def test_a_request_must_come_and_its_answer_go_in_time(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_tiles, "_HEAD_SECONDS", 0.5)
    with connected(address) as dripping, connected(address, ELSEWHERE) as silent:
        deadline = time.monotonic() + SECONDS
        with suppress(OSError):
            # A byte now and then is not in time either.
            while time.monotonic() < deadline:
                dripping.sendall(b"G")
                time.sleep(0.1)
        assert time.monotonic() < deadline
        assert silent.recv(1) == b""


def test_addresses_take_turns_and_two_threads_answer_all(address: tuple[str, int], logs: KeptLogs) -> None:
    logs.go.clear()
    with ExitStack() as stack:
        greedy = [stack.enter_context(connected(address)) for _ in range(20)]
        for connection in greedy:
            connection.sendall(GET * 5)
        until(lambda: logs.at_once == 1)
        # One of the other address is answered beside, not behind them.
        other = stack.enter_context(connected(address, ELSEWHERE))
        other.sendall(GET)
        until(lambda: logs.at_once == 2)
        third = stack.enter_context(connected(address, "127.0.0.10"))
        third.sendall(GET)
        time.sleep(0.2)
        assert logs.most == 2
        logs.go.set()
        assert other.recv(4096).endswith(b"note")
        assert third.recv(4096).endswith(b"note")


PROXY = "127.0.0.20"


def from_(client: str, header: str = "X-Forwarded-For") -> bytes:
    """A request as a proxy sends it for a client, which has tried to be somebody else."""
    said = f"for=192.0.2.99, for={client}" if header == "Forwarded" else f"192.0.2.99, {client}"
    return GET.replace(b"\r\n\r\n", f"\r\n{header}: {said}\r\n\r\n".encode())


@pytest.fixture
def behind(logs: KeptLogs) -> Iterator[tuple[str, int]]:
    """Where a proxy calls."""
    proxies = Proxies([ip_network(f"{PROXY}/32")])
    server = HttpTiles("127.0.0.1:0", cast("Logs", logs), proxies=proxies)
    server.start()
    yield server.address
    server.stop()


def test_the_slow_behind_a_proxy_keep_no_others_of_it_waiting(behind: tuple[str, int], logs: KeptLogs) -> None:
    logs.go.clear()
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(behind, PROXY)) for _ in range(http_tiles._OF_ADDRESS + 8)]
        for connection in slow:
            connection.sendall(from_("198.51.100.1") * 3)
        until(lambda: logs.at_once == 1)
        other = stack.enter_context(connected(behind, PROXY))
        other.sendall(from_("198.51.100.2"))
        # Beside, not behind them.
        until(lambda: logs.at_once == 2)
        logs.go.set()
        assert other.recv(4096).endswith(b"note")
        # Of the one that has too many some were hung up on, as without a proxy.
        assert sum(_is_hung_up_on(connection) for connection in slow) >= 8


def test_a_proxy_brings_many_on_one_connection_and_has_as_many_as_it_likes(behind: tuple[str, int]) -> None:
    with ExitStack() as stack:
        kept = [stack.enter_context(connected(behind, PROXY)) for _ in range(http_tiles._OF_ADDRESS * 2)]
        for _ in range(2):
            for number, connection in enumerate(kept):
                assert answer(connection, from_(f"198.51.100.{number}")).endswith(b"note")


def test_who_is_no_proxy_is_whoever_it_is(behind: tuple[str, int]) -> None:
    with ExitStack() as stack:
        many = [stack.enter_context(connected(behind)) for _ in range(http_tiles._OF_ADDRESS + 1)]
        for number, connection in enumerate(many[1:]):
            assert answer(connection, from_(f"198.51.100.{number}")).endswith(b"note")
        assert many[0].recv(1) == b""


@pytest.mark.parametrize(
    ("header", "said", "client"),
    [
        ("X-Forwarded-For", "198.51.100.1", "198.51.100.1"),
        ("X-Forwarded-For", "192.0.2.99, 198.51.100.1", "198.51.100.1"),
        ("X-Forwarded-For", "192.0.2.99, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("X-Forwarded-For", "198.51.100.1:4711", "198.51.100.1"),
        ("X-Forwarded-For", "[2001:db8::1]:4711", "2001:db8::1"),
        ("X-Forwarded-For", "2001:db8::1", "2001:db8::1"),
        ("X-Forwarded-For", "::ffff:198.51.100.1", "198.51.100.1"),
        # What a proxy does not say, nobody is asked for.
        ("X-Forwarded-For", "198.51.100.1, unknown", "10.0.0.1"),
        ("X-Forwarded-For", "", "10.0.0.1"),
        ("X-Forwarded-For", "10.0.0.2, 10.0.0.3", "10.0.0.1"),
        ("Forwarded", "for=198.51.100.1", "198.51.100.1"),
        ("Forwarded", 'for=192.0.2.99, proto=https;For="[2001:db8::1]:4711";by=10.0.0.1', "2001:db8::1"),
        ("Forwarded", "for=192.0.2.99, for=_hidden", "10.0.0.1"),
        ("Forwarded", "for=192.0.2.99, proto=https", "10.0.0.1"),
    ],
)
def test_a_client_is_the_last_address_that_is_no_proxy_s(header: str, said: str, client: str) -> None:
    proxies = Proxies([ip_network("10.0.0.0/24")], header)
    head = f"GET / HTTP/1.1\r\n{header}: {said}\r\nHost: x\r\n\r\n".encode()
    assert proxies.client_of(head, "10.0.0.1") == client
    assert proxies.client_of(b"GET / HTTP/1.1\r\n\r\n", "10.0.0.1") == "10.0.0.1"
    # Each server adds a line of its own, or to the one that there is.
    both = head.replace(b"Host: x", f"{header}: {said}".encode())
    assert proxies.client_of(both, "10.0.0.1") == client
    assert proxies.has("10.0.0.7")
    assert not proxies.has("198.51.100.1")
    assert not Proxies().has("10.0.0.1")


def _is_hung_up_on(connection: socket.socket) -> bool:
    connection.settimeout(SECONDS)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_an_address_is_answered_so_often_a_second(
    address: tuple[str, int], logs: KeptLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_tiles, "_PACE", Limit(rate=20.0, burst=20.0))
    with connected(address) as fast:
        fast.sendall(GET * 200)
        time.sleep(1.0)
        assert logs.asked <= 20 + 20 * 3
        with connected(address, ELSEWHERE) as other:
            assert answer(other).endswith(b"note")
