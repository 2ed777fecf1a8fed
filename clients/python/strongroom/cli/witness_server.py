"""A witness over HTTP, for strangers: loaded where one is run, since http.server takes its time."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from strongroom.cli.terminal import write_beside
from strongroom.tlog.witness import MAX_REQUEST_BYTES, Answer, Witness

_IDLE_SECONDS = 30.0
_CONNECTION_SECONDS = 60.0
_MAX_CONNECTIONS = 64
_MAX_DIGITS = 9
_LINE = 200


class WitnessServer(ThreadingHTTPServer):
    """Serves so many connections at once, each for so long: nobody holds it by being slow, or by coming often."""

    def __init__(self, witness: Witness, host: str, port: int) -> None:
        self.witness = witness
        self._places = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Gives the connection a thread where there is a place, and closes it otherwise."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serves the connection, and gives its place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()


class _Handler(BaseHTTPRequestHandler):
    server: WitnessServer
    # A request a connection: what follows one is never taken for another's, whatever a web server before it thinks.
    protocol_version = "HTTP/1.0"
    timeout = _IDLE_SECONDS

    def handle(self) -> None:
        def hang_up() -> None:
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        # The timeout of a socket begins anew with every byte.
        watch = threading.Timer(_CONNECTION_SECONDS, hang_up)
        watch.daemon = True
        watch.start()
        try:
            with suppress(OSError):
                super().handle()
        finally:
            watch.cancel()

    def do_GET(self) -> None:
        hashed, _, rest = self.path.removeprefix("/").partition("/")
        known = rest == "checkpoint"
        self._answer(self.server.witness.checkpoint(hashed) if known else Answer(HTTPStatus.NOT_FOUND))

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdecimal() or not 0 <= _size(length) <= MAX_REQUEST_BYTES:
            self._answer(Answer(HTTPStatus.BAD_REQUEST))
            return
        body = self.rfile.read(int(length))
        known = self.path == "/add-checkpoint"
        self._answer(self.server.witness.add_checkpoint(body) if known else Answer(HTTPStatus.NOT_FOUND))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        line = format % args
        write_beside(f"{self.address_string()} {line[:_LINE]}")

    def _answer(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)


def _size(digits: str) -> int:
    """A length that a stranger wrote; -1 for one of more digits than any has that is taken."""
    return int(digits) if len(digits) <= _MAX_DIGITS else -1
