"""Pages of lists: their size, and tokens that say where the last one ended, good for the list that gave them alone."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from services.runtime.errors import Reason, StrongroomError, invalid

_FORMAT = b"\x01"
_DIGEST_BYTES = 8
_DIGITS = 9
# Of 18 digits, so that databases have room for it.
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_DEFAULT_PAGE = 50
_LARGEST_PAGE = 1000
LARGEST_BYTES = 2 << 20
"""Of the items of a page, unless it has one alone: half of what gRPC's clients take by default."""


T = TypeVar("T")
M = TypeVar("M", bound=Message)


class PageRequest(Protocol):
    """A request for a page."""

    @property
    def page_size(self) -> int:
        """How many items are wanted at most; 0 for the list's own number."""

    @property
    def page_token(self) -> str:
        """Where the page begins; empty for the first."""


@dataclass(frozen=True, slots=True)
class Page:
    """Which page of a list is asked for."""

    listed: str
    """What is listed, and by which filter."""
    after: str
    """The last item of the page before; empty for the first."""
    size: int

    @classmethod
    def of(cls, request: PageRequest, listed: str, default: int = _DEFAULT_PAGE, largest: int = _LARGEST_PAGE) -> Page:
        """The page that a request asks for, of `default` items where it says nothing, and at most `largest`. Raises
        FIELD_INVALID, PAGE_TOKEN_INVALID."""
        return cls(listed, decode(listed, request.page_token), page_size(request.page_size, default, largest))

    def below(self, newest: int) -> int:
        """`after` of a list whose places are numbers, the newest first, which begins below `newest`. Raises
        PAGE_TOKEN_INVALID."""
        return _number(self.after, newest)

    @property
    def limit(self) -> int:
        """How many items to read: one more than fit, which tells whether there are more."""
        return self.size + 1

    def fill(self, found: Sequence[T], message: Callable[[T], M], place: Callable[[T], str]) -> tuple[list[M], str]:
        """The page's messages, and the token for the next page; `place` is what its `after` is to be. There are fewer
        than were asked for where more would be too large for one answer."""
        messages: list[M] = []
        size = 0
        for item in found[: self.size]:
            added = message(item)
            size += added.ByteSize()
            if messages and size > LARGEST_BYTES:
                break
            messages.append(added)
        more = len(messages) < len(found)
        return messages, encode(self.listed, place(found[len(messages) - 1])) if more else ""


def page_size(asked: int, default: int = _DEFAULT_PAGE, largest: int = _LARGEST_PAGE) -> int:
    """The size of a page: 50 for 0 and at most 1,000, unless its list has limits of its own. Raises FIELD_INVALID for a
    negative one."""
    if asked < 0:
        raise invalid("page_size", "is negative")
    return min(asked or default, largest)


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
    # Whoever knows what is listed can write a token: what it says is looked for in databases.
    if not content.startswith(prefix) or not last or not last.isprintable():
        raise _invalid()
    return last


def decode_numbers(listed: str, token: str, count: int) -> tuple[int, ...]:
    """Where a page begins, in a list whose places are `count` numbers with dots between; empty for the first page."""
    last = decode(listed, token)
    numbers = last.split(".") if last else []
    if numbers and (len(numbers) != count or not all(_NUMBER.fullmatch(number) for number in numbers)):
        raise _invalid()
    return tuple(map(int, numbers))


def decode_number(listed: str, token: str, first: int) -> int:
    """Where a page begins, in a list in the order of numbers; `first` for the first page."""
    return _number(decode(listed, token), first)


def _number(last: str, first: int) -> int:
    if not last:
        return first
    if not (last.isascii() and last.isdecimal() and len(last) <= _DIGITS):
        raise _invalid()
    return int(last)


def _digest(listed: str) -> bytes:
    return sha256(listed.encode()).digest()[:_DIGEST_BYTES]


def _invalid() -> StrongroomError:
    return StrongroomError(Reason.PAGE_TOKEN_INVALID, "page_token is not one that this list gave", field="page_token")
