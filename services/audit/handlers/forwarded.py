"""Whose a request is that came by a web server: the address that the server itself has written into it.

Anybody may write anything into a header. So one is believed from the addresses alone that are configured as those of
web servers, and of it the last entry that is none of theirs: what came before that is the caller's own word.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from http.client import HTTPException, parse_headers
from io import BytesIO

from services.runtime.addresses import ip_of

_STANDARD = "Forwarded"
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Proxies:
    """The web servers before a listener."""

    def __init__(self, networks: Iterable[_Network] = (), header: str = "X-Forwarded-For") -> None:
        """`header` is the one that all of them write: this, or `Forwarded`."""
        self._networks = tuple(networks)
        self._header = header

    def has(self, address: str) -> bool:
        """Whether an address is one of theirs."""
        return bool(self._networks) and self._is_proxy(_parsed(address))

    def client_of(self, head: bytes, proxy: str) -> str:
        """Whose a request is that a proxy sent, by the request's head; the proxy's own where that does not say."""
        for entry in reversed(_entries(head, self._header)):
            address = _parsed(_of_forwarded(entry) if self._header == _STANDARD else entry)
            if address is None:
                return proxy
            if not self._is_proxy(address):
                return str(address)
        return proxy

    def _is_proxy(self, address: _Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def _entries(head: bytes, header: str) -> Sequence[str]:
    """What each server on the way has added, in order."""
    _, _, lines = head.partition(b"\r\n")
    try:
        values = parse_headers(BytesIO(lines)).get_all(header, [])
    except HTTPException:
        return ()
    return ",".join(values).split(",")


def _of_forwarded(element: str) -> str:
    """The `for` of an element of `Forwarded` (RFC 7239, section 4)."""
    for pair in element.split(";"):
        name, _, value = pair.partition("=")
        if name.strip().lower() == "for":
            return value.strip().strip('"')
    return ""


def _parsed(text: str) -> _Address | None:
    """An address, which may have a port, and IPv6 brackets."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return ip_of(text)
