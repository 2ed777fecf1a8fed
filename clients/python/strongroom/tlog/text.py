"""Numbers and bytes as the C2SP formats write them: one way for each, and every other is refused."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode

from strongroom.tlog.errors import malformed

HASH_BYTES = 32

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


def number(text: str, what: str) -> int:
    """An ASCII decimal below 2^63 without leading zeroes. Raises LOG_DATA_MALFORMED, naming `what`."""
    if not _DECIMAL.fullmatch(text) or int(text) >= 1 << 63:
        raise malformed(what, "is not a decimal number without leading zeroes")
    return int(text)


def base64_bytes(text: str, what: str) -> bytes:
    """Standard base64 with padding (RFC 4648, section 4), in its one canonical form. Raises LOG_DATA_MALFORMED."""
    try:
        data = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise malformed(what, "is not base64") from None
    if b64encode(data).decode() != text:
        raise malformed(what, "is not canonical base64")
    return data


def hash_bytes(text: str, what: str) -> bytes:
    """A SHA-256 hash in base64. Raises LOG_DATA_MALFORMED."""
    data = base64_bytes(text, what)
    if len(data) != HASH_BYTES:
        raise malformed(what, f"has {len(data)} bytes, not {HASH_BYTES}")
    return data


def encoded(data: bytes) -> str:
    """Bytes in standard base64."""
    return b64encode(data).decode()
