"""Turns: neither an account nor one of its callers has all threads of a door at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass


class TooManyError(Exception):
    """So many of an account's requests are in hand already."""


@dataclass(slots=True)
class _Line:
    """Who waits and works under one name."""

    places: asyncio.Semaphore
    count: int = 0


class Turns:
    """Accounts and their callers have so many places each; what is asked beyond them waits for its own, and not for
    others'."""

    def __init__(self, of_account: int, of_caller: int, in_hand: int) -> None:
        """An account has so many places, each of its callers so many of those, and the account `in_hand` requests in
        all, that wait or are in work."""
        self._of_account = of_account
        self._of_caller = of_caller
        self._in_hand = in_hand
        self._lines: dict[Hashable, _Line] = {}

    @asynccontextmanager
    async def of(self, account: str, caller: str) -> AsyncIterator[None]:
        """A place of this caller's, once there is one. Raises TooManyError."""
        with (
            self._standing(account, self._of_account) as whole,
            self._standing((account, caller), self._of_caller) as own,
        ):
            if whole.count > self._in_hand:
                raise TooManyError
            # Who waits for its own turn keeps none of the account's from its others.
            async with own.places, whole.places:
                yield

    @contextmanager
    def _standing(self, name: Hashable, places: int) -> Iterator[_Line]:
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = _Line(asyncio.Semaphore(places))
        line.count += 1
        try:
            yield line
        finally:
            line.count -= 1
            if not line.count:
                del self._lines[name]
