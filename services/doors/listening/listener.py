"""A door's listener: a loop that reads requests whole, and threads that answer them. A slow client has no thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from uvicorn.config import Config

from services.doors.listening.connections import CERTIFICATE, Connections, method_of
from services.doors.listening.exchange import WITHOUT_BODY, Door, Head, HttpError, Response
from services.doors.listening.paths import parts_of, query_of
from services.doors.listening.server_tls import ServerTls
from services.doors.listening.turns import TooManyError, Turns
from services.doors.settings import HttpListener
from services.runtime.addresses import plain_address

log = logging.getLogger(__name__)

Receive = Callable[[], Any]
Send = Callable[[dict[str, Any]], Any]

_KIB, _MIB = 1 << 10, 1 << 20
_SMALL_BODY = 64 * _KIB
_ONCE = frozenset({"authorization", "host", "traceparent", "transfer-encoding"})
_ONCE_BEGIN = ("x-vault-", "content-")
_SWEEP_SECONDS = 1.0
_BACKLOG = 512
# And without a length of one (RFC 9110 §8.6): clients take what follows for the next answer.
_BUSY = HttpError(503, "the door is busy: try again in a moment", retry_after_seconds=1)


class Listener:
    """One port of a door."""

    def __init__(self, settings: HttpListener, door: Door, tls: ServerTls | None) -> None:
        """Without `tls` it is plain HTTP."""
        self._settings = settings
        self._door = door
        self._tls = tls
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="door")
        # A batch of one caller's is a thousand calls to the mesh; and an account has as many callers as it likes.
        of_account, of_caller = max(1, settings.threads // 2), max(1, settings.threads // 4)
        self._turns = Turns(of_account, of_caller, of_account + settings.max_waiting // 2)
        self._in_work = 0
        self._held_bytes = 0
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.Task[None] | None = None
        config = Config(
            self._app,
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            # What strangers send is not worth a line each.
            log_level=logging.ERROR,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=int(settings.idle_seconds),
        )
        config.load()
        malformed = door.refusal(HttpError(400, "the request is no HTTP/1.1"))
        too_large = door.refusal(_too_large_head(settings))
        self._connections = Connections(settings, config, malformed, too_large)

    async def start(self) -> None:
        """Begins to listen. Raises OSError where the address cannot be had."""
        self._socket = _bound(self._settings.address)
        self._server = await self._accepting(self._socket)
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep(self._socket))

    async def stop(self) -> None:
        """Takes no new connections, lets requests in work be answered, and ends."""
        if self._server is not None:
            self._server.close()
        await self._connections.drain(self._settings.drain_seconds)
        if self._sweeping is not None:
            self._sweeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeping
        if self._socket is not None:
            self._socket.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _accepting(self, bound: socket.socket) -> asyncio.Server:
        context = self._tls.context if self._tls is not None else None
        timeouts: dict[str, Any] = {}
        if context is not None:
            timeouts = {"ssl_handshake_timeout": self._settings.handshake_seconds, "ssl_shutdown_timeout": 2.0}
        return await asyncio.get_running_loop().create_server(
            self._connections.accept, sock=bound.dup(), ssl=context, backlog=_BACKLOG, **timeouts
        )

    async def _sweep(self, bound: socket.socket) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self._connections.sweep()
            if self._tls is not None and self._tls.refresh():
                before, self._server = self._server, await self._accepting(bound)
                if before is not None:
                    before.close()
                # Whoever is not trusted any more shows nobody the certificate of before.
                self._connections.end_when_answered()

    async def _app(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        response = await self._response(scope, receive)
        body = response.body if response.status not in WITHOUT_BODY else b""
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            *((name.encode(), value.encode()) for name, value in response.headers),
        ]
        if response.status in WITHOUT_BODY:
            headers = headers[2:]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _response(self, scope: dict[str, Any], receive: Receive) -> Response:
        held = 0
        try:
            head = self._head(scope)
            body = bytearray()
            async for part in _parts(receive):
                was_small = held <= _SMALL_BODY
                held += len(part)
                self._held_bytes += len(part)
                self._require_room(held)
                if was_small and held > _SMALL_BODY:
                    # A stranger's is not read on.
                    await self._in_thread(head, self._door.admit, head)
                body += part
            return await self._answered(head, bytes(body))
        except HttpError as error:
            return self._door.refusal(error)
        finally:
            self._held_bytes -= held

    def _require_room(self, size: int) -> None:
        if size > self._settings.max_body_kib * _KIB:
            raise HttpError(413, f"the body is larger than {self._settings.max_body_kib} KiB")
        if self._held_bytes > self._settings.max_held_mib * _MIB:
            raise _BUSY

    async def _answered(self, head: Head, body: bytes) -> Response:
        response: Response = await self._in_thread(head, self._door.answer, head, body)
        return response

    async def _in_thread(self, head: Head, work: Callable[..., Any], *arguments: object) -> Any:
        if self._in_work >= self._settings.threads + self._settings.max_waiting:
            raise _BUSY
        self._in_work += 1
        try:
            async with self._turns.of(*self._door.turn_of(head)):
                return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
        except TooManyError:
            raise _BUSY from None
        finally:
            self._in_work -= 1

    def _head(self, scope: dict[str, Any]) -> Head:
        size = len(scope["raw_path"]) + sum(len(name) + len(value) for name, value in scope["headers"])
        if size > self._settings.max_header_kib * _KIB:
            raise _too_large_head(self._settings)
        headers = _joined(scope["headers"])
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self._settings.max_body_kib * _KIB:
            raise HttpError(413, f"the body is larger than {self._settings.max_body_kib} KiB")
        path, is_folder = parts_of(scope["raw_path"])
        address = plain_address(scope["client"][0]) if scope["client"] else ""
        certificate = scope["state"].get(CERTIFICATE, b"")
        query = query_of(scope["query_string"])
        return Head(method_of(scope), path, is_folder, query, headers, address, certificate)


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by their names; one that is there several times is a list (RFC 9110 §5.3), such as proxies add to. Raises
    HttpError for one that says who asks, for what, or where a request ends: of two of those one is somebody else's."""
    found: dict[str, list[str]] = {}
    for raw_name, value in headers:
        name = raw_name.decode("ascii")
        values = found.setdefault(name, [])
        if values and (name in _ONCE or name.startswith(_ONCE_BEGIN)):
            raise HttpError(400, f"the header {name} is there twice")
        values.append(value.decode("latin-1"))
    return {name: ("; " if name == "cookie" else ", ").join(values) for name, values in found.items()}


def _too_large_head(settings: HttpListener) -> HttpError:
    return HttpError(431, f"line and headers are larger than {settings.max_header_kib} KiB")


async def _parts(receive: Receive) -> Any:
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise HttpError(400, "the client has gone")
        more = message.get("more_body", False)
        if message["body"]:
            yield message["body"]


def _bound(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    bound = socket.socket(found[0], found[1])
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(found[4])
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


async def run(listeners: list[Listener], stopping: asyncio.Event) -> None:
    """Serves until `stopping` is set."""
    for listener in listeners:
        await listener.start()
    log.info("serving", extra={"fields": {"doors": len(listeners)}})
    await stopping.wait()
    log.info("stopping: requests in progress may finish")
    await asyncio.gather(*(listener.stop() for listener in listeners))
    log.info("stopped")
