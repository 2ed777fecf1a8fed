"""A log over HTTP, read-only, as C2SP tlog-tiles has it: `/{log}/checkpoint`, `/{log}/tile/…`.

For those who keep a copy or watch the log; nothing in it needs a secret. Behind a web server that does TLS.
"""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from services.audit.logs.logs import PREFIX, Logs
from services.runtime.access.strangers import network_of
from services.runtime.errors import Reason, StrongroomError
from services.runtime.rpc.places import Places

log = logging.getLogger(__name__)

_TEXT = "text/plain; charset=utf-8"
_BYTES = "application/octet-stream"
_FOREVER = "public, max-age=31536000, immutable"
_BRIEFLY = "public, max-age=1"
_ABSENT = (Reason.LOG_NOT_FOUND, Reason.TILE_NOT_FOUND, Reason.CHECKPOINT_NOT_FOUND, Reason.FIELD_INVALID)
_IDLE_SECONDS = 30.0
_CONNECTIONS = 128


class HttpTiles:
    """The server. `address` is `host:port`; it takes so many `connections` at once."""

    def __init__(self, address: str, logs: Logs, connections: int = _CONNECTIONS) -> None:
        host, _, port = address.rpartition(":")
        self._server = _Server((host.strip("[]"), int(port)), _handler(logs), connections)
        self._thread = threading.Thread(target=self._server.serve_forever, name="http-tiles", daemon=True)

    def start(self) -> None:
        """Begins to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Ends."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """A thread for each connection, and so many at once: the oldest of the address with the most gives way."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], connections: int) -> None:
        self._places: Places[socket.socket] = Places(connections)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        displaced = self._places.enter(request, network_of(str(client_address[0])))
        if displaced is not None:
            # Its thread ends by this, whatever it waits for.
            with suppress(OSError):
                displaced.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._places.leave(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("http", exc_info=True, extra={"fields": {"peer": str(client_address[0])}})


def _handler(logs: Logs) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = _IDLE_SECONDS

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
