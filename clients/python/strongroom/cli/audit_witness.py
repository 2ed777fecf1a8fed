"""`strongroom audit witness`: a witness that anyone can run, anywhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli.audit_logs import Keys, keys_of
from strongroom.cli.command import Report, Session, command

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

    from strongroom.tlog.witness import Answer, Witness

_IDLE_SECONDS = 30.0


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
    from http import HTTPStatus
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    from strongroom.tlog.witness import MAX_REQUEST_BYTES, Answer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = _IDLE_SECONDS

        def do_GET(self) -> None:
            hashed, _, rest = self.path.removeprefix("/").partition("/")
            self._answer(own.checkpoint(hashed) if rest == "checkpoint" else Answer(HTTPStatus.NOT_FOUND))

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > MAX_REQUEST_BYTES:
                self.close_connection = True
                self._answer(Answer(HTTPStatus.BAD_REQUEST))
                return
            body = self.rfile.read(int(length))
            self._answer(own.add_checkpoint(body) if self.path == "/add-checkpoint" else Answer(HTTPStatus.NOT_FOUND))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            sys.stderr.write(f"{self.address_string()} {format % args}\n")

        def _answer(self, answer: Answer) -> None:
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

    return ThreadingHTTPServer((host, port), Handler)
