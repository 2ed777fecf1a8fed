"""Pages of lists: their size, and tokens that say where the last one ended, good for the list that gave them alone."""

from __future__ import annotations

import base64
import binascii
from hashlib import sha256

from services.runtime.errors import Reason, StrongroomError, invalid

_FORMAT = b"\x01"
_DIGEST_BYTES = 8
_DIGITS = 9
_DEFAULT_PAGE = 50
_LARGEST_PAGE = 1000


def page_size(asked: int) -> int:
    """The size of a page: 50 for 0, at most 1,000. Raises FIELD_INVALID for a negative one."""
    if asked < 0:
        raise invalid("page_size", "is negative")
    return min(asked or _DEFAULT_PAGE, _LARGEST_PAGE)


def encode(listed: str, last: str) -> str:
    """The token for the page behind `last` of the list that `listed` describes."""
    return base64.urlsafe_b64encode(_FORMAT + _digest(listed) + last.encode()).decode()


def decode(listed: str, token: str) -> str:
    """Where a page of the list begins; empty for the first. Raises PAGE_TOKEN_INVALID for another list's token."""
    if not token:
        return ""
    prefix = _FORMAT + _digest(listed)
    try:
        content = base64.b64decode(token, b"-_", validate=True)
        last = content.removeprefix(prefix).decode()
    except (binascii.Error, ValueError) as error:
        raise _invalid() from error
    if not content.startswith(prefix) or not last:
        raise _invalid()
    return last


def decode_number(listed: str, token: str, first: int) -> int:
    """The same for a list in the order of numbers, which begins at `first`."""
    last = decode(listed, token)
    if not last:
        return first
    if not (last.isascii() and last.isdecimal() and len(last) <= _DIGITS):
        raise _invalid()
    return int(last)


def _digest(listed: str) -> bytes:
    return sha256(listed.encode()).digest()[:_DIGEST_BYTES]


def _invalid() -> StrongroomError:
    return StrongroomError(Reason.PAGE_TOKEN_INVALID, "page_token is not one that this list gave", field="page_token")
