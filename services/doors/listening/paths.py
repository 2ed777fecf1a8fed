"""Paths and queries as they came: read strictly, so that no two texts mean the same resource."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote_to_bytes

from services.doors.listening.exchange import HttpError

_MAX_BYTES = 2048
_MAX_FIELDS = 16
_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# Nothing that a terminal or another program could read as more than a letter of a name.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f/\\\u2028\u2029]")


def parts_of(raw: bytes) -> tuple[tuple[str, ...], bool]:
    """The parts of a path, and whether it ends with a slash. Raises HttpError 400."""
    if len(raw) > _MAX_BYTES:
        raise HttpError(414, f"the path is longer than {_MAX_BYTES} bytes")
    if not raw.startswith(b"/"):
        raise HttpError(400, "the path does not begin with a slash")
    encoded = raw[1:].split(b"/")
    is_folder = len(encoded) > 1 and not encoded[-1]
    if is_folder:
        encoded.pop()
    return tuple(map(_part, encoded)), is_folder


def query_of(raw: bytes) -> Mapping[str, str]:
    """The fields of a query, each there once. Raises HttpError 400."""
    if not raw:
        return {}
    try:
        pairs = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError:
        raise HttpError(400, "the query cannot be read") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise HttpError(400, "the query has a field twice")
    return fields


def _part(encoded: bytes) -> str:
    if not encoded:
        raise HttpError(400, "the path has an empty part")
    if _ESCAPE.search(encoded):
        raise HttpError(400, "the path has a % that begins no escape")
    try:
        part = unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        raise HttpError(400, "the path is not UTF-8") from None
    if part in (".", "..") or _FORBIDDEN.search(part):
        raise HttpError(400, "the path has a part that is none: '.', '..', or one with a slash or control character")
    return part
