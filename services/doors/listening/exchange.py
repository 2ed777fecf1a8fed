"""One HTTP exchange as a door sees it: what was asked, what is answered, and what is refused before a door sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Head:
    """What a request says before its body. Header names are in lower case; what was there several times is a list."""

    method: str
    path: tuple[str, ...]
    """The parts of the path, decoded; none is empty, `.` or `..`, and none has a slash in it."""
    is_folder: bool
    """Whether the path ended with a slash."""
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    address: str
    """The client's address, without its port."""
    certificate: bytes = field(default=b"", repr=False)
    """The client's verified certificate in DER; empty without one."""


WITHOUT_BODY = (204, 205, 304)
"""Statuses that nothing follows but their headers."""
_FINAL = range(200, 600)


@dataclass(frozen=True, slots=True)
class Response:
    """What a client is answered: JSON, or nothing. Its status ends the answer: after one below 200 whoever reads takes
    what follows for another."""

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.status not in _FINAL:
            raise ValueError("no final status of HTTP")


class HttpError(Exception):
    """A request that is answered with an error, in the words of the door's protocol."""

    def __init__(self, status: int, *messages: str, retry_after_seconds: int = 0) -> None:
        super().__init__(f"{status}: {'; '.join(messages)}")
        self.status = status
        self.messages = messages
        self.retry_after_seconds = retry_after_seconds


class Door(Protocol):
    """What answers requests that have come whole. Methods run in threads, several at once."""

    def turn_of(self, head: Head) -> tuple[str, str]:
        """Whose turn a request takes: the account's that is known to make it, or the address's where nobody is; and
        within that one, its caller's."""

    def admit(self, head: Head) -> None:
        """Raises HttpError for a caller whose large body is not worth reading."""

    def answer(self, head: Head, body: bytes) -> Response:
        """The answer to a request; never raises."""

    def refusal(self, error: HttpError) -> Response:
        """How the protocol tells of an error."""
