"""The canonical bytes of an encryption context (docs/formats.md, "Encryption context"), written and read."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from struct import Struct

from strongroom.encryption.message.refusals import altered
from strongroom.errors import StrongroomError

MAX_BYTES = 8192
DIGEST_BYTES = 32

_LENGTH = Struct(">H")
EMPTY = _LENGTH.pack(0)


def canonical(pairs: Mapping[str, str] | None) -> bytes:
    """The canonical bytes of a context. Equal contexts have equal bytes, different ones never.

    Raises FIELD_INVALID for an empty key and for text that has no UTF-8, FIELD_TOO_LARGE beyond 8,192 bytes.
    """
    if not pairs:
        return EMPTY
    if len(pairs) > MAX_BYTES // 4:
        raise _too_large()
    try:
        encoded = sorted((key.encode(), value.encode()) for key, value in pairs.items())
    except (UnicodeEncodeError, AttributeError):
        raise _invalid("holds something that is no text in UTF-8") from None
    if not encoded[0][0]:
        raise _invalid("has an empty key")
    if 2 + sum(4 + len(key) + len(value) for key, value in encoded) > MAX_BYTES:
        raise _too_large()
    parts = [_LENGTH.pack(len(encoded))]
    for key, value in encoded:
        parts += (_LENGTH.pack(len(key)), key, _LENGTH.pack(len(value)), value)
    return b"".join(parts)


def digest(canonical_context: bytes) -> bytes:
    """What stands for a context where the context itself does not."""
    return sha256(canonical_context).digest()


def pairs_of(canonical_context: bytes) -> dict[str, str]:
    """The pairs of canonical bytes. Raises MESSAGE_ALTERED for any other bytes."""
    size = len(canonical_context)
    if not len(EMPTY) <= size <= MAX_BYTES:
        raise altered()
    pairs: dict[str, str] = {}
    (count,), at, before = _LENGTH.unpack_from(canonical_context), _LENGTH.size, b""
    for _ in range(count):
        key, at = _text(canonical_context, at)
        value, at = _text(canonical_context, at)
        # The first key is more than nothing, each further one more than the one before.
        if key <= before:
            raise altered()
        try:
            pairs[key.decode()] = value.decode()
        except UnicodeDecodeError:
            raise altered() from None
        before = key
    if at != size:
        raise altered()
    return pairs


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    start = at + _LENGTH.size
    if start > len(data):
        raise altered()
    end = start + _LENGTH.unpack_from(data, at)[0]
    if end > len(data):
        raise altered()
    return data[start:end], end


def _invalid(what: str) -> StrongroomError:
    return StrongroomError("FIELD_INVALID", f"the encryption context {what}", field="context")


def _too_large() -> StrongroomError:
    return StrongroomError(
        "FIELD_TOO_LARGE", f"the encryption context has more than {MAX_BYTES} bytes", field="context"
    )
