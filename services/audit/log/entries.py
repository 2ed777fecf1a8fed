"""Events as the log keeps them: their bytes, ids and times."""

from __future__ import annotations

from services.audit.keys.sealing import SEALING_BYTES
from services.runtime.errors import too_large
from strongroom.audit.v1.event_pb2 import Event
from strongroom.tlog.tiles import MAX_ENTRY_BYTES

_MAX_EVENT_BYTES = MAX_ENTRY_BYTES - SEALING_BYTES
_DECIDED_BY_SHORTENED = 1_000


def serialized(event: Event) -> bytes:
    """An event's bytes, which fit into a leaf. One that names very many policies names the first of them: it must not
    keep the events that came with it out of the log. Raises FIELD_TOO_LARGE."""
    data = event.SerializeToString()
    if len(data) > _MAX_EVENT_BYTES:
        event.decided_by = f"{event.decided_by[:_DECIDED_BY_SHORTENED]}…"
        data = event.SerializeToString()
        if len(data) > _MAX_EVENT_BYTES:
            raise too_large("events", _MAX_EVENT_BYTES)
    return data


def event_key(event: Event) -> bytes:
    """An event's id as the database keeps it."""
    return bytes.fromhex(event.id.replace("-", ""))


def event_time_us(event: Event) -> int:
    """An event's time as the database keeps it."""
    time = event.time
    return time.seconds * 1_000_000 + time.nanos // 1000
