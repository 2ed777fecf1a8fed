"""Page tokens of event lists: where the last page ended, opaque to callers."""

from __future__ import annotations

import base64
import binascii
from struct import Struct, error

from services.audit.store import Position
from services.runtime.errors import Reason, StrongroomError

# format, time in microseconds, place in the log
_TOKEN = Struct(">BQQ")
_FORMAT = 1


def encode(position: Position | None) -> str:
    """The token for the page behind `position`; empty when there is none."""
    return base64.urlsafe_b64encode(_TOKEN.pack(_FORMAT, *position)).decode() if position else ""


def decode(token: str) -> Position | None:
    """Where a page begins; None for the first. Raises PAGE_TOKEN_INVALID."""
    if not token:
        return None
    try:
        fmt, time_us, leaf_index = _TOKEN.unpack(base64.b64decode(token, b"-_", validate=True))
    except (binascii.Error, error, ValueError) as cause:
        raise _invalid() from cause
    if fmt != _FORMAT:
        raise _invalid()
    return time_us, leaf_index


def _invalid() -> StrongroomError:
    return StrongroomError(Reason.PAGE_TOKEN_INVALID, "page_token is not one that this list gave", field="page_token")
