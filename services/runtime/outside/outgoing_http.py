"""HTTP to servers that other people run: one exchange, bounded in time and size, with nobody but who was named.

No redirect is followed and no proxy is asked. Names are looked up by the system, whose time limit is its own.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import SplitResult, urlsplit

from services.runtime.addresses import ip_of

_CONNECT_SECONDS = 2.0
_PORTS = {"https": 443, "http": 80}

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network
Permits = Callable[[IpAddress], bool]


class ExchangeError(Exception):
    """There is no answer. The message is for a person and says nothing that the server said."""


class ExchangeRefusedError(OSError):
    """A name stands for no address that is permitted."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a server."""

    url: str
    method: str = "GET"
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


def exchange(
    request: Request,
    *,
    seconds: float,
    max_bytes: int,
    ca_certificates: str = "",
    plaintext: bool = False,
    permits: Permits | None = None,
) -> tuple[int, bytes]:
    """The status and the body of a server's answer.

    `seconds` is for everything from the connection to the last byte, and `max_bytes` for the body. The server's
    certificate chains to `ca_certificates` (PEM), or else to the system's; `plaintext` lets http URLs pass, and
    `permits` says which addresses a name may stand for. Raises ExchangeError.
    """
    try:
        place = urlsplit(request.url)
        schemes = ("https", "http") if plaintext else ("https",)
        if place.scheme not in schemes or not place.hostname or place.username is not None:
            raise ExchangeError(f"{request.url} is no {' or '.join(schemes)} URL")
        status, body = _exchanged(place, request, ca_certificates, seconds, max_bytes, permits)
    except (OSError, HTTPException, ValueError) as error:
        raise ExchangeError(_why(error)) from error
    if len(body) > max_bytes:
        raise ExchangeError(f"the answer is larger than {max_bytes} bytes")
    return status, body


def _exchanged(
    place: SplitResult,
    request: Request,
    ca_certificates: str,
    seconds: float,
    max_bytes: int,
    permits: Permits | None,
) -> tuple[int, bytes]:
    host, port = place.hostname or "", place.port or _PORTS[place.scheme]
    context = ssl.create_default_context(cadata=ca_certificates or None) if place.scheme == "https" else None
    with closing(_connected(host, port, permits)) as plain, _hung_up_after(plain, seconds):
        connection = HTTPConnection(host, port)
        connection.sock = plain if context is None else context.wrap_socket(plain, server_hostname=host)
        # The watch ends what takes too long; within that time a server may pause as it likes.
        connection.sock.settimeout(seconds)
        with closing(connection):
            path = f"{place.path or '/'}?{place.query}" if place.query else place.path or "/"
            connection.request(request.method, path, request.body, dict(request.headers))
            response = connection.getresponse()
            return response.status, response.read(max_bytes + 1)


def _connected(host: str, port: int, permits: Permits | None) -> socket.socket:
    """A connection to a server; the address that was asked about is the one that is connected to."""
    if permits is None:
        return socket.create_connection((host, port), _CONNECT_SECONDS)
    error: OSError = ExchangeRefusedError()
    for *_, found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        address = str(found[0])
        routed = ip_of(address)
        if routed is not None and permits(routed):
            try:
                return socket.create_connection((address, port), _CONNECT_SECONDS)
            except OSError as failed:
                error = failed
    raise error


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
    if isinstance(error, ExchangeRefusedError):
        return "nothing is asked at its address"
    # The server's own words are nobody's to read.
    return type(error).__name__
