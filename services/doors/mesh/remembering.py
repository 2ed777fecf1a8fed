"""What a door remembers, so much of it at a time."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def remember(memory: OrderedDict[K, V], place: K, value: V, most: int) -> None:
    """Puts a value in as the newest. Beyond `most` of them the oldest are forgotten."""
    memory[place] = value
    memory.move_to_end(place)
    while len(memory) > most:
        memory.popitem(last=False)
