"""Resume tokens of watches: the number of a change, and what tells it from another of the same number, in a form that
callers do not look into."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from hashlib import sha256

from services.runtime.errors import invalid
from services.secrets.core.changes import Mark

# Tokens of before, without a digest, are read still.
_FORMAT, _NUMBER_ALONE = b"\x02", b"\x01"
_BYTES, _DIGEST_BYTES = 8, 8


@dataclass(frozen=True, slots=True)
class Place:
    """How far a watcher has heard."""

    revision: int
    """The number of the last change that it was told of, or that concerned nobody it watches."""
    digest: bytes = b""
    """Of that change; empty where nothing is known of it."""

    @classmethod
    def of(cls, revision: int, mark: Mark) -> Place:
        """The place of the change of this number and mark."""
        return cls(revision, sha256(mark).digest()[:_DIGEST_BYTES] if mark is not None else b"")


def encode(place: Place) -> str:
    """The token of a place."""
    number = place.revision.to_bytes(_BYTES, "big")
    content = _FORMAT + number + place.digest if place.digest else _NUMBER_ALONE + number
    return base64.urlsafe_b64encode(content).decode()


def decode(token: str) -> Place | None:
    """The place; None without a token. Raises FIELD_INVALID for what is none."""
    if not token:
        return None
    try:
        content = base64.b64decode(token, b"-_", validate=True)
    except (binascii.Error, ValueError):
        content = b""
    form, number, digest = content[:1], content[1 : 1 + _BYTES], content[1 + _BYTES :]
    length = {_FORMAT: _DIGEST_BYTES, _NUMBER_ALONE: 0}.get(form)
    if len(number) != _BYTES or len(digest) != length:
        raise invalid("resume_token", "is not one that WatchSecret gave")
    return Place(int.from_bytes(number, "big"), digest)
