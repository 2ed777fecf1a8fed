"""Who is forgotten, where more have taken of a limit than are remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

# So many of those that were idle for longest are looked at for one whom it costs nothing to be forgotten.
_LOOKED_AT = 8


def forget_one(entries: OrderedDict[K, V], whole_at: Callable[[V], float], now: float) -> None:
    """Forgets one that is whole again, which changes nothing for anybody; where none of those that were idle for
    longest is, the one of them that is whole first. So a flood of new ones does not free one that has taken much: it
    pushes out its own, which have taken less."""
    looked_at: dict[K, V] = {}
    while entries and len(looked_at) < _LOOKED_AT:
        key, entry = entries.popitem(last=False)
        looked_at[key] = entry
        if whole_at(entry) <= now:
            break
    looked_at.pop(min(looked_at, key=lambda key: whole_at(looked_at[key])))
    # Behind all others: those that come after them are looked at next.
    entries.update(looked_at)
