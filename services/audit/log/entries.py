"""Events as the log keeps them: their bytes, ids and times."""

from __future__ import annotations

from services.runtime import event_bounds
from strongroom.audit.v1.event_pb2 import Event


def serialized(event: Event) -> bytes:
    """An event's bytes, which fit into a leaf. Services bound events where they make them; those of an earlier release
    may not have, and are shortened here."""
    data = event.SerializeToString()
    if len(data) > event_bounds.SMALL_BYTES:
        event_bounds.bound(event)
        data = event.SerializeToString()
    return data


def event_key(event: Event) -> bytes:
    """An event's id as the database keeps it."""
    return bytes.fromhex(event.id.replace("-", ""))


def event_time_us(event: Event) -> int:
    """An event's time as the database keeps it."""
    time = event.time
    return time.seconds * 1_000_000 + time.nanos // 1000
