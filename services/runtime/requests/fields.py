"""Fields that many requests have: update masks, durations, and texts for people."""

from __future__ import annotations

from collections.abc import Collection

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from services.runtime.errors import invalid, too_large

MAX_DESCRIPTION = 1024


def changed_paths(mask: FieldMask, possible: Collection[str]) -> frozenset[str]:
    """What a request is to change: the paths of its mask, or all that are possible without one. Raises FIELD_INVALID
    for another path."""
    unknown = sorted(set(mask.paths) - set(possible))
    if unknown:
        raise invalid("update_mask", f"names {unknown[0]}, which cannot be changed")
    return frozenset(mask.paths or possible)


def check_text(text: str, field: str, limit: int = MAX_DESCRIPTION) -> str:
    """A text for people. Raises FIELD_TOO_LARGE beyond its limit in characters."""
    if len(text) > limit:
        raise too_large(field, limit, "characters")
    return text


def whole_seconds(duration: Duration, field: str) -> int:
    """A duration in seconds. Raises FIELD_INVALID for parts of one."""
    if duration.nanos:
        raise invalid(field, "is not in whole seconds")
    return duration.seconds
