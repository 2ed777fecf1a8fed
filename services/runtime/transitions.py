"""State machines as tables: (state, event) → state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from services.runtime.errors import StrongroomError

State = TypeVar("State")
Event = TypeVar("Event")


def following(
    table: Mapping[tuple[State, Event], State], state: State, event: Event, refusal: Callable[[], StrongroomError]
) -> State:
    """The state that an event leads to. Raises the refusal where the table has none."""
    found = table.get((state, event))
    if found is None:
        raise refusal()
    return found
