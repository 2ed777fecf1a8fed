"""A log over HTTP, read-only, as C2SP tlog-tiles has it: `/{log}/checkpoint`, `/{log}/tile/…`.

For those who keep a copy or watch the log; nothing in it needs a secret. Behind a web server that does TLS.

The process is the one that writes the log, so that strangers get little of it: a loop reads requests whole, which costs
a slow connection no thread, and two threads answer them, of each address one at a time. Behind a web server that is
configured as such, an address is the one that the server says a request came from.

A web server sends requests of many of its clients through one connection, so that both must find the same requests in
it: a head that could be read in two ways, or that a body could follow, is the last of its connection.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any

from services.audit.handlers.forwarded import Proxies
from services.audit.logs.logs import PREFIX, Logs
from services.runtime.access.quotas import Bucket, Limit
from services.runtime.access.strangers import network_of
from services.runtime.errors import Reason, StrongroomError
from services.runtime.rpc.places import Places

log = logging.getLogger(__name__)

_TEXT = "text/plain; charset=utf-8"
_BYTES = "application/octet-stream"
_FOREVER = "public, max-age=31536000, immutable"
_BRIEFLY = "public, max-age=1"
_ABSENT = (Reason.LOG_NOT_FOUND, Reason.TILE_NOT_FOUND, Reason.CHECKPOINT_NOT_FOUND, Reason.FIELD_INVALID)
_CONNECTIONS = 256
_OF_ADDRESS = 32
_ADDRESSES = 4_096
_THREADS = 2
_PACE = Limit(rate=500.0, burst=500.0)
_HEAD_BYTES = 8 << 10
# For a request to come whole, the time before its first byte included, and for its answer to be taken.
_HEAD_SECONDS = 15.0
_TAKE_SECONDS = 15.0
_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
_BACKLOG = 64
_NO_PROXIES = Proxies()
# RFC 9112: a request line and fields, each in a line of its own, without what recipients read differently: line ends of
# other kinds, lines that go on in the next, blanks before a colon.
_HEAD = re.compile(rb"[A-Z]+ [!-~]+ HTTP/1\.[01]\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n)*\r\n")
# Fields that say that something is between this head and the next; an empty body is none.
_MORE = re.compile(rb"\r\n(?:transfer-encoding:|expect:|content-length:(?![\t ]*0[\t ]*\r\n))", re.IGNORECASE)
_REFUSED = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class HttpTiles:
    """The server. `address` is `host:port`; it takes so many `connections` at once."""

    def __init__(
        self, address: str, logs: Logs, connections: int = _CONNECTIONS, proxies: Proxies = _NO_PROXIES
    ) -> None:
        host, _, port = address.rpartition(":")
        self._address = host.strip("[]"), int(port)
        self._guests = _Guests(connections)
        self._proxies = proxies
        self._handler = _handler(logs)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="http-tiles")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="http-tiles", daemon=True)
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, once it has begun to."""
        return self._address

    def start(self) -> None:
        """Begins to serve. Raises OSError where the address cannot be had."""
        self._thread.start()
        host, port = self._address
        serving = asyncio.start_server(self._serve, host, port, limit=_HEAD_BYTES, backlog=_BACKLOG)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result(_START_SECONDS)
        self._address = host, int(self._server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Ends."""
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(_STOP_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_SECONDS)
        self._pool.shutdown(wait=False, cancel_futures=True)
        if not self._thread.is_alive():
            self._loop.close()

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = str((writer.get_extra_info("peername") or ("",))[0])
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            if self._proxies.has(peer):
                async with self._guests.between(writer, peer):
                    while await self._answer_for(peer, reader, writer):
                        pass
            else:
                async with self._guests.entered(writer, network_of(peer)) as guest:
                    while await self._answer(await _read(reader), writer, guest):
                        pass

    async def _answer_for(self, proxy: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers one request that a proxy sent. Whether there may be another."""
        head = await _read(reader)
        client = self._proxies.client_of(head, proxy)
        async with self._guests.served(writer, network_of(client), proxy) as guest:
            return await self._answer(head, writer, guest)

    async def _answer(self, head: bytes, writer: asyncio.StreamWriter, guest: _Guest) -> bool:
        """Answers one request. Whether there may be another."""
        async with guest.turn:
            # Others of the address wait behind it.
            await asyncio.sleep(guest.pace.take(time.monotonic()))
            if _ends_where_all_say(head):
                answered = await self._loop.run_in_executor(self._pool, _answered, self._handler, head)
            else:
                answered = _Answered(_REFUSED, is_last=True)
        writer.write(answered.content)
        async with asyncio.timeout(_TAKE_SECONDS):
            await writer.drain()
        return not answered.is_last


async def _read(reader: asyncio.StreamReader) -> bytes:
    """The head of a request, in time."""
    async with asyncio.timeout(_HEAD_SECONDS):
        return await reader.readuntil(b"\r\n\r\n")


@dataclass(slots=True)
class _Guest:
    """An address."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    pace: Bucket = field(default_factory=lambda: Bucket(_PACE, time.monotonic()))
    connections: OrderedDict[asyncio.StreamWriter, None] = field(default_factory=OrderedDict)


class _Guests:
    """Who is connected: so many at once, and so many of an address; the oldest of the address with the most gives
    way."""

    def __init__(self, connections: int) -> None:
        self._places: Places[asyncio.StreamWriter] = Places(connections)
        self._guests: OrderedDict[str, _Guest] = OrderedDict()

    @asynccontextmanager
    async def entered(self, writer: asyncio.StreamWriter, address: str) -> AsyncIterator[_Guest]:
        """Gives a connection its place while the block runs, and closes it then."""
        guest = self._guest(address)
        self._admit(writer, address, guest)
        try:
            yield guest
        finally:
            self._places.leave(writer)
            guest.connections.pop(writer, None)
            writer.transport.close()

    @asynccontextmanager
    async def between(self, writer: asyncio.StreamWriter, proxy: str) -> AsyncIterator[None]:
        """Gives a proxy's connection its place, which is nobody's between requests, while the block runs."""
        self._enter(writer, proxy)
        try:
            yield
        finally:
            self._places.leave(writer)
            writer.transport.close()

    @asynccontextmanager
    async def served(self, writer: asyncio.StreamWriter, address: str, proxy: str) -> AsyncIterator[_Guest]:
        """Has a proxy's connection be that of an address while the block runs."""
        guest = self._guest(address)
        if not self._places.leave(writer):
            raise ConnectionAbortedError
        self._admit(writer, address, guest)
        try:
            yield guest
        finally:
            guest.connections.pop(writer, None)
            if self._places.leave(writer):
                self._enter(writer, proxy)

    def _admit(self, writer: asyncio.StreamWriter, address: str, guest: _Guest) -> None:
        if len(guest.connections) >= _OF_ADDRESS:
            oldest, _ = guest.connections.popitem(last=False)
            oldest.transport.abort()
        self._enter(writer, address)
        guest.connections[writer] = None

    def _enter(self, writer: asyncio.StreamWriter, group: str) -> None:
        displaced = self._places.enter(writer, group)
        if displaced is not None:
            displaced.transport.abort()

    def _guest(self, address: str) -> _Guest:
        # Kept without a connection too: to come again gives nobody another pace.
        guest = self._guests.setdefault(address, _Guest())
        self._guests.move_to_end(address)
        if len(self._guests) > _ADDRESSES:
            idle = next((known for known, one in self._guests.items() if not one.connections), address)
            if idle != address:
                del self._guests[idle]
        return guest


@dataclass(frozen=True, slots=True)
class _Answered:
    content: bytes
    is_last: bool


def _handler(logs: Logs) -> Any:
    class Handler(BaseHTTPRequestHandler):
        """Reads a request that is there whole, and writes its answer into memory."""

        protocol_version = "HTTP/1.1"

        def __init__(self, head: bytes) -> None:
            # Not the base class's, which does all of it over a socket.
            self.written = BytesIO()
            self.rfile, self.wfile = BytesIO(head), self.written
            self.close_connection = True
            self.handle_one_request()

        def do_GET(self) -> None:  # the name that http.server calls
            name, _, path = self.path.removeprefix("/").partition("/")
            try:
                transparency = logs.named(PREFIX + name).transparency
                if path == "checkpoint":
                    self._answer(HTTPStatus.OK, transparency.checkpoint().note, _TEXT, _BRIEFLY)
                else:
                    self._answer(HTTPStatus.OK, transparency.tile(path), _BYTES, _FOREVER)
            except StrongroomError as error:
                absent = error.reason in _ABSENT
                status = HTTPStatus.NOT_FOUND if absent else HTTPStatus.SERVICE_UNAVAILABLE
                self._answer(status, f"{error.reason}\n".encode(), _TEXT, "no-store")

        do_HEAD = do_GET  # noqa: N815  # as above

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            log.debug("http", extra={"fields": {"line": format % args}})

        def _answer(self, status: HTTPStatus, body: bytes, content_type: str, caching: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", caching)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler


def _ends_where_all_say(head: bytes) -> bool:
    """Whether everybody who reads this head takes what comes behind it for the next request."""
    return _HEAD.fullmatch(head) is not None and _MORE.search(head) is None


def _answered(handler: Any, head: bytes) -> _Answered:
    try:
        handled = handler(head)
    except Exception:
        log.exception("a request for tiles failed unexpectedly")
        return _Answered(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", True)
    return _Answered(handled.written.getvalue(), handled.close_connection)
