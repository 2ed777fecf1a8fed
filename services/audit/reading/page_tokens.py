"""Positions in the log as page tokens."""

from __future__ import annotations

from google.protobuf.message import Message

from services.audit.storage.store import Position
from services.runtime.requests import paging


def listed(request: Message, *without: str) -> str:
    """What tells a list from others: everything that is asked for, but for these fields."""
    conditions = type(request)()
    conditions.CopyFrom(request)
    for field in without:
        conditions.ClearField(field)
    return conditions.SerializeToString(deterministic=True).hex()


def encode(listed: str, position: Position | None) -> str:
    """The token for the page behind `position`; empty when there is none."""
    return paging.encode(listed, f"{position[0]}.{position[1]}") if position else ""


def decode(listed: str, token: str) -> Position | None:
    """Where a page begins; None for the first. Raises PAGE_TOKEN_INVALID."""
    place = paging.decode_numbers(listed, token, 2)
    return (place[0], place[1]) if place else None
