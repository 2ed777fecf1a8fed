"""JSON documents of other people's servers: over TLS alone, bounded in time and size, from the asked place alone."""

from __future__ import annotations

import json
from typing import Any

from services.runtime.outgoing_http import ExchangeError, Request, exchange

MAX_BYTES = 64 * 1024
SECONDS = 3.0
"""How long one document may take."""

_OK = 200


class DocumentError(Exception):
    """A document could not be had; the message is for a person and says nothing that the server said."""


def get(url: str, ca_certificates: str = "", seconds: float = SECONDS) -> dict[str, Any]:
    """The JSON object at an https URL, whose server's certificate chains to `ca_certificates` (PEM) or else to the
    system's. Nothing is followed and no proxy is asked. Raises DocumentError."""
    request = Request(url, headers={"Accept": "application/json"})
    try:
        status, content = exchange(request, seconds=seconds, max_bytes=MAX_BYTES, ca_certificates=ca_certificates)
    except ExchangeError as error:
        raise DocumentError(f"{url} cannot be fetched: {error}") from error
    if status != _OK:
        raise DocumentError(f"{url} cannot be fetched: the answer has status {status}")
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
