"""The encryption context: what a ciphertext is bound to besides its key, and how it is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct

from services.runtime.errors import invalid, too_large

MAX_BYTES = 8192

_LENGTH = Struct(">H")
_EMPTY = _LENGTH.pack(0)


@dataclass(frozen=True, slots=True)
class EncryptionContext:
    """A context, and its canonical bytes."""

    pairs: Mapping[str, str]
    canonical: bytes


NONE = EncryptionContext({}, _EMPTY)


def of(pairs: Mapping[str, str], field: str = "encryption_context") -> EncryptionContext:
    """The context that a request gives. Raises as `canonical`."""
    return EncryptionContext(pairs, canonical(pairs, field)) if pairs else NONE


def canonical(pairs: Mapping[str, str], field: str = "encryption_context") -> bytes:
    """The canonical bytes of a context (docs/formats.md, "Encryption context"): a count, then length-prefixed keys
    and values in the order of the keys' UTF-8 bytes. Equal contexts have equal bytes, different ones never.

    Raises FIELD_TOO_LARGE beyond 8,192 bytes and FIELD_INVALID for an empty key.
    """
    if not pairs:
        return _EMPTY
    if len(pairs) > MAX_BYTES // 4:
        # They are not even looked at.
        raise too_large(field, MAX_BYTES)
    encoded = sorted((key.encode(), value.encode()) for key, value in pairs.items())
    if not encoded[0][0]:
        raise invalid(field, "has an empty key")
    size = 2 + sum(4 + len(key) + len(value) for key, value in encoded)
    if size > MAX_BYTES:
        raise too_large(field, MAX_BYTES)
    parts = [_LENGTH.pack(len(encoded))]
    for key, value in encoded:
        parts += (_LENGTH.pack(len(key)), key, _LENGTH.pack(len(value)), value)
    return b"".join(parts)
