"""What each of very many has taken of a limit: two numbers of each, and of so many at most."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

from services.runtime.access.forgetting import forget_one
from services.runtime.access.quotas import Limit

K = TypeVar("K", bound=Hashable)

# Times are sums of many parts: what is missing of 1 by rounding counts as there.
_ONE = 0.999


class Ration(NamedTuple):
    """What one has taken of a limit."""

    back_at: float
    """When all that was taken will have come back."""
    held_until: float
    """What whoever keeps it wants to know of a later moment."""

    def left(self, limit: Limit, now: float) -> float:
        """How much there is to take; less than 1 is nothing yet."""
        return limit.burst - max(self.back_at - now, 0.0) * limit.rate

    def wait(self, limit: Limit, now: float) -> float:
        """In how many seconds there is 1 to take; 0 where there is."""
        return max((_ONE - self.left(limit, now)) / limit.rate, 0.0)

    def less(self, limit: Limit, now: float) -> Ration:
        """What is left after 1 was taken."""
        return self._replace(back_at=max(self.back_at, now) + 1.0 / limit.rate)

    def whole_at(self) -> float:
        """From when on it is as if it had never been touched."""
        return max(self)


class Rations(Generic[K]):
    """Rations by key, of which `most` are remembered."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rations: OrderedDict[K, Ration] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rations)

    def get(self, key: K, now: float) -> Ration:
        """What is known of a key; a whole ration where nothing is."""
        return self._rations.get(key) or Ration(now, now)

    def put(self, key: K, ration: Ration, now: float) -> None:
        """Remembers what a key has left, as the one that was in use last."""
        if key not in self._rations and len(self._rations) >= self._most:
            forget_one(self._rations, Ration.whole_at, now)
        self._rations[key] = ration
        self._rations.move_to_end(key)
