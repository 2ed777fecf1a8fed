"""Permissions that hang on what is there: on what a policy is attached to, or which key an alias stands for.

They are asked before the change, by what is there then, and held against what is there when the change is made, which
nobody else changes any more: what others changed in between must neither be done by a permission that nobody asked for,
nor keep a change from being made that is permitted all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

from services.runtime.errors import Reason, StrongroomError

A = TypeVar("A", bound=Hashable)
T = TypeVar("T")

_TRIES = 8


class UnaskedError(Exception):
    """A change needs permissions that nobody was asked for yet."""

    def __init__(self, needed: list[Hashable]) -> None:
        super().__init__("permissions are to be asked for")
        self.needed = needed


class Rights(Generic[A]):
    """What one change was permitted."""

    def __init__(self, permit: Callable[[Sequence[A]], None]) -> None:
        """`permit` asks for some permissions, and raises where the caller does not have one of them."""
        self._permit = permit
        self._asked: set[A] = set()

    def ask(self, needed: Iterable[A]) -> None:
        """Asks for those permissions of them that were not asked for yet."""
        unasked = [one for one in needed if one not in self._asked]
        if unasked:
            self._permit(unasked)
            self._asked.update(unasked)

    def forget(self) -> None:
        """Has all be asked for again: what was permitted is too long ago."""
        self._asked.clear()

    def require(self, needed: Iterable[A]) -> None:
        """For the change itself: ends it, unmade, where one of them was not asked for."""
        unasked: list[Hashable] = [one for one in needed if one not in self._asked]
        if unasked:
            raise UnaskedError(unasked)

    def exercise(self, change: Callable[[], T]) -> T:
        """What a change answers that `require`s what it needs: it is made anew once more was asked for. Raises
        OVERLOADED where others change what it hangs on faster than that."""
        for _ in range(_TRIES):
            try:
                return change()
            except UnaskedError as unasked:
                needed: list[A] = unasked.needed  # type: ignore[assignment]  # they are what was required
            self.ask(needed)
        raise StrongroomError(Reason.OVERLOADED, "what is changed was changed by other calls just now: try again")
