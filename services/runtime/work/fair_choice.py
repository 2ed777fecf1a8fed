"""Some of many, so that none is left out for long: owners in turn, and each owner's in an order that changes."""

from __future__ import annotations

from collections.abc import Iterable
from random import SystemRandom
from typing import TypeVar

T = TypeVar("T")


def choose(found: Iterable[tuple[str, T]], limit: int) -> list[T]:
    """At most so many of what is given with its owner. However many one owner has, and whatever becomes of them, each
    of the others' has its chance at every call."""
    random = SystemRandom()
    owned: dict[str, list[T]] = {}
    for owner, one in found:
        owned.setdefault(owner, []).append(one)
    waiting = list(owned.values())
    random.shuffle(waiting)
    for items in waiting:
        random.shuffle(items)
    chosen: list[T] = []
    while waiting and len(chosen) < limit:
        chosen += [items.pop() for items in waiting[: limit - len(chosen)]]
        waiting = [items for items in waiting if items]
    return chosen
