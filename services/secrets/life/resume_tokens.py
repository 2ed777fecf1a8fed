"""Resume tokens of watches: the number of a change, in a form that callers do not look into."""

from __future__ import annotations

import base64
import binascii

from services.runtime.errors import invalid

_FORMAT = b"\x01"
_BYTES = 8


def encode(revision: int) -> str:
    """The token of the change of this number."""
    return base64.urlsafe_b64encode(_FORMAT + revision.to_bytes(_BYTES, "big")).decode()


def decode(token: str) -> int | None:
    """The number of the change; None without a token. Raises FIELD_INVALID for what is none."""
    if not token:
        return None
    try:
        content = base64.b64decode(token, b"-_", validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if len(content) != len(_FORMAT) + _BYTES or not content.startswith(_FORMAT):
        raise invalid("resume_token", "is not one that WatchSecret gave")
    return int.from_bytes(content[len(_FORMAT) :], "big")
