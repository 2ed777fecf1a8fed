"""Tags: for filters and for access policies, on every kind of resource alike."""

from __future__ import annotations

from collections.abc import Mapping

from services.runtime.errors import invalid, too_large

MAX_TAGS = 50
_MAX_KEY = 128
_MAX_VALUE = 256


def check_tags(asked: Mapping[str, str], field: str, most: int = MAX_TAGS) -> dict[str, str]:
    """The tags of a request: up to `most`, keys of 1 to 128 and values of up to 256 characters. Raises FIELD_TOO_LARGE
    and FIELD_INVALID."""
    tags = dict(asked)
    if len(tags) > most:
        raise too_large(field, most, "tags")
    if any(not key for key in tags):
        raise invalid(field, "has an empty key")
    if any(len(key) > _MAX_KEY for key in tags):
        raise too_large(field, _MAX_KEY, "characters in a key")
    if any(len(value) > _MAX_VALUE for value in tags.values()):
        raise too_large(field, _MAX_VALUE, "characters in a value")
    return tags
