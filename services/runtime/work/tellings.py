"""What was told lately: something that stays so is told of now and then, and not with each look at it."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

AGAIN_SECONDS = 3600.0


class Tellings(Generic[T]):
    """Which things to tell of. With `most` of them told of lately, everything is told of again."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._told: dict[T, float] = {}

    def untold(self, things: Iterable[T]) -> list[T]:
        """Those of the things that were not told of within an hour; they are from now on."""
        now = time.monotonic()
        self._told = {thing: at for thing, at in self._told.items() if now - at < AGAIN_SECONDS}
        found = [thing for thing in things if thing not in self._told]
        if found and self._most is not None and len(self._told) >= self._most:
            self._told.clear()
        self._told |= dict.fromkeys(found, now)
        return found
