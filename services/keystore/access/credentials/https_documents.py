"""JSON documents of other people's servers: over TLS alone, bounded in time and size, from the asked place alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_network
from typing import Any
from urllib.parse import urlsplit

from services.runtime.outside.outgoing_http import ExchangeError, IpAddress, IpNetwork, Request, exchange
from services.runtime.outside.public_addresses import is_public
from services.runtime.requests.wire import is_line

MAX_BYTES = 64 * 1024
MAX_URL = 2048
SECONDS = 3.0
"""How long one document may take."""

ANYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))

_OK = 200


class DocumentError(Exception):
    """A document could not be had; the message is for a person and says nothing that the server said."""


def is_url(url: str) -> bool:
    """Whether a text is the URL of such a document, whoever wrote it: a caller, or another document."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    named = bool(parts.hostname) and port != 0 and parts.username is None and not parts.fragment
    return named and parts.scheme == "https" and len(url) <= MAX_URL and is_line(url)


def get(
    url: str,
    ca_certificates: str = "",
    seconds: float = SECONDS,
    *,
    private: Sequence[IpNetwork] = ANYWHERE,
    refused: Sequence[IpNetwork] = (),
) -> dict[str, Any]:
    """The JSON object at an https URL, whose server's certificate chains to `ca_certificates` (PEM) or else to the
    system's. Nothing is followed, no proxy is asked, and there is no connection to addresses of `refused`, nor to what
    is not the internet's unless `private` has it. Raises DocumentError."""
    request = Request(url, headers={"Accept": "application/json"})

    def permits(address: IpAddress) -> bool:
        if _is_nobodys(address) or any(address in network for network in refused):
            return False
        return is_public(address) or any(address in network for network in private)

    try:
        status, content = exchange(
            request, seconds=seconds, max_bytes=MAX_BYTES, ca_certificates=ca_certificates, permits=permits
        )
    except ExchangeError as error:
        raise DocumentError(f"{url} cannot be fetched: {error}") from error
    if status != _OK:
        raise DocumentError(f"{url} cannot be fetched: the answer has status {status}")
    return json_object(content, url)


def _is_nobodys(address: IpAddress) -> bool:
    """Whether no issuer is at an address: those of this link alone, where clouds tell machines their secrets, and those
    that stand for no one server."""
    site_local = isinstance(address, IPv6Address) and address.is_site_local
    return address.is_link_local or address.is_unspecified or address.is_multicast or site_local


def json_object(content: bytes | str, where: str) -> dict[str, Any]:
    """Content as a JSON object. Raises DocumentError naming `where`."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise DocumentError(f"{where} is no JSON object")
    return document
