"""JSON documents of other people's servers: over TLS alone, bounded in time and size, from the asked place alone."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

MAX_BYTES = 64 * 1024
SECONDS = 3.0
"""How long one document may take once its server is connected."""

_CONNECT_SECONDS = 2.0
_OK = 200


class DocumentError(Exception):
    """A document could not be had; the message is for a person and says nothing that the server said."""


def get(url: str, ca_certificates: str = "", seconds: float = SECONDS) -> dict[str, Any]:
    """The JSON object at an https URL, whose server's certificate chains to `ca_certificates` (PEM) or else to the
    system's. Nothing is followed and no proxy is asked. Raises DocumentError."""
    try:
        place = urlsplit(url)
        if place.scheme != "https" or not place.hostname or place.username is not None:
            raise DocumentError(f"{url} is no https URL")
        content = _fetch(place, ca_certificates, seconds)
    except (OSError, HTTPException, ValueError) as error:
        raise DocumentError(f"{url} cannot be fetched: {_why(error)}") from error
    return json_object(content, url)


def json_object(content: bytes | str, where: str) -> dict[str, Any]:
    """Content as a JSON object. Raises DocumentError naming `where`."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise DocumentError(f"{where} is no JSON object")
    return document


def _fetch(place: SplitResult, ca_certificates: str, seconds: float) -> bytes:
    host, port = place.hostname or "", place.port or 443
    context = ssl.create_default_context(cadata=ca_certificates or None)
    with closing(socket.create_connection((host, port), _CONNECT_SECONDS)) as plain, _hung_up_after(plain, seconds):
        connection = HTTPSConnection(host, port, context=context)
        connection.sock = context.wrap_socket(plain, server_hostname=host)
        with closing(connection):
            path = f"{place.path or '/'}?{place.query}" if place.query else place.path or "/"
            connection.request("GET", path, headers={"Accept": "application/json"})
            response = connection.getresponse()
            if response.status != _OK:
                raise ValueError(f"the answer has status {response.status}")
            content = response.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")
    return content


@contextmanager
def _hung_up_after(connection: socket.socket, seconds: float) -> Iterator[None]:
    """Ends the connection after `seconds`, whatever it is used for then: a timeout of the socket begins anew with every
    byte, so that a server which sends one a second could hold a thread for hours. Raises TimeoutError then."""
    ended = threading.Event()
    # TLS takes the socket over; the connection behind it stays within reach by another descriptor.
    with connection.dup() as same:

        def hang_up() -> None:
            ended.set()
            with suppress(OSError):
                same.shutdown(socket.SHUT_RDWR)

        watch = threading.Timer(seconds, hang_up)
        watch.daemon = True
        watch.start()
        try:
            yield
        except (OSError, HTTPException) as error:
            if ended.is_set():
                raise TimeoutError from error
            raise
        finally:
            watch.cancel()
            watch.join()
        if ended.is_set():  # what was read until then looked like all there is
            raise TimeoutError


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "it takes too long"
    # Of our own making; what the server says is nobody's to read.
    return str(error) if type(error) is ValueError else type(error).__name__
