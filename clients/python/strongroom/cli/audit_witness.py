"""`strongroom audit witness`: a witness that anyone can run, anywhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strongroom.cli.audit_logs import Keys, keys_of
from strongroom.cli.command import Report, Session, command
from strongroom.cli.terminal import write_line

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

    from strongroom.tlog.witness import Answer, Witness

_IDLE_SECONDS = 30.0
_CONNECTION_SECONDS = 60.0
_MAX_CONNECTIONS = 64
_MAX_DIGITS = 9
_LINE = 200


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "witness")(witness)


def witness(
    session: Session,
    key: Keys,
    state: Annotated[Path, typer.Option(metavar="FOLDER", help="Its key, and what it cosigned last. Keep it.")],
    name: Annotated[str, typer.Option(help="Its name, such as witness.example.com/w1.")],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where it serves HTTP.")] = "127.0.0.1:7140",
) -> Report:
    """Run a witness (C2SP tlog-witness) of the logs whose keys are given, until Ctrl-C.

    It cosigns a checkpoint only if it goes on from the one before. Prints its own key first: configure that in the log.
    """
    del session  # a witness knows no profile
    import time

    from strongroom.tlog.notes import is_name
    from strongroom.tlog.witness import Witness, WitnessState

    if not is_name(name):
        raise typer.BadParameter("has a space, a +, or nothing in it", param_hint="--name")
    host, _, port = listen.rpartition(":")
    if not port.isdecimal():
        raise typer.BadParameter(f"{listen!r} is not HOST:PORT", param_hint="--listen")
    own = Witness(name, WitnessState(state), keys_of(key, "--key"), time.time)
    server = _server(own, host.strip("[]"), int(port))
    sys.stdout.write(f"{own.verifier_key}\n")
    sys.stdout.flush()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
    return Report({}, silent=True)


def _server(own: Witness, host: str, port: int) -> ThreadingHTTPServer:
    """Serves so many connections at once, each for so long: nobody holds it by being slow, or by coming often."""
    import socket
    import threading
    from contextlib import suppress
    from http import HTTPStatus
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    from strongroom.tlog.witness import MAX_REQUEST_BYTES, Answer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
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
            self._answer(own.checkpoint(hashed) if rest == "checkpoint" else Answer(HTTPStatus.NOT_FOUND))

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isascii() or not length.isdecimal() or not 0 <= _size(length) <= MAX_REQUEST_BYTES:
                self.close_connection = True
                self._answer(Answer(HTTPStatus.BAD_REQUEST))
                return
            body = self.rfile.read(int(length))
            self._answer(own.add_checkpoint(body) if self.path == "/add-checkpoint" else Answer(HTTPStatus.NOT_FOUND))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            line = format % args
            write_line(f"{self.address_string()} {line[:_LINE]}", sys.stderr)

        def _answer(self, answer: Answer) -> None:
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

    class Server(ThreadingHTTPServer):
        _places = threading.BoundedSemaphore(_MAX_CONNECTIONS)

        def process_request(self, request: Any, client_address: Any) -> None:
            if self._places.acquire(blocking=False):
                super().process_request(request, client_address)
            else:
                self.shutdown_request(request)

        def process_request_thread(self, request: Any, client_address: Any) -> None:
            try:
                super().process_request_thread(request, client_address)
            finally:
                self._places.release()

    return Server((host, port), Handler)


def _size(digits: str) -> int:
    """A length that a stranger wrote; -1 for one of more digits than any has that is taken."""
    return int(digits) if len(digits) <= _MAX_DIGITS else -1
