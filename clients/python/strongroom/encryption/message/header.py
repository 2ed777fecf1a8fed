"""The header of a message: who can open it, its encryption context, and the size of its chunks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from struct import Struct

from strongroom.encryption.message import context as contexts
from strongroom.encryption.message.refusals import (
    altered,
    chunk_size_invalid,
    context_mismatch,
    not_recognized,
    version_unknown,
)
from strongroom.errors import StrongroomError

MAGIC = b"\x89SRFILE"
VERSION = 2
TAG_BYTES = 32
CHUNK_SIZE_LOG2 = 16
CHUNK_SIZE_LOG2_RANGE = range(6, 21)
MAX_WRAPPED_KEYS = 16
MAX_HINT_BYTES = 255
MAX_ENCRYPTED_DATA_KEY_BYTES = 2048

# magic, version, log2 of the chunk size, form of the context, number of wrapped keys, length of the rest
FIXED = Struct(">7sBBBBH")
_DIGEST_FORM, _WHOLE_FORM = 0, 1
_U16 = Struct(">H")
_PRINTABLE = bytes(range(0x21, 0x7F))

Read = Callable[[int], bytes]
"""Answers as many bytes as it is asked for, or fewer at the end."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A message's data key, encrypted under one key.

    `key` is that key's full name and `mesh` says where it is; both are hints that a writer may leave out, and that
    nothing but an answer of the mesh confirms.
    """

    encrypted_data_key: bytes
    key: str = ""
    mesh: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """What precedes the body. Nothing in it is secret, and all of it is under the header tag.

    `context` is the encryption context where the writer wrote it down, and None where its digest stands alone.
    """

    wrapped_keys: tuple[WrappedKey, ...]
    context_digest: bytes
    context: Mapping[str, str] | None = None
    chunk_size_log2: int = CHUNK_SIZE_LOG2

    @classmethod
    def of(
        cls,
        wrapped_keys: tuple[WrappedKey, ...],
        context: Mapping[str, str] | None,
        *,
        store_context: bool = False,
        chunk_size_log2: int = CHUNK_SIZE_LOG2,
    ) -> Header:
        """The header of a new message, with the context's digest or, if asked, the context itself."""
        digest = contexts.digest(contexts.canonical(context))
        return cls(wrapped_keys, digest, dict(context or {}) if store_context else None, chunk_size_log2)

    @property
    def chunk_size(self) -> int:
        """Bytes of content in each chunk but the last."""
        return 1 << self.chunk_size_log2

    def to_bytes(self) -> bytes:
        """The header as it is in the message, without its tag. Raises FIELD_INVALID or FIELD_TOO_LARGE."""
        if self.chunk_size_log2 not in CHUNK_SIZE_LOG2_RANGE:
            raise StrongroomError("FIELD_INVALID", "chunks have 2^6 to 2^20 bytes", field="chunk_size_log2")
        if not 0 < len(self.wrapped_keys) <= MAX_WRAPPED_KEYS:
            raise StrongroomError("FIELD_INVALID", f"a message is under 1 to {MAX_WRAPPED_KEYS} keys", field="keys")
        rest = b"".join((self._context_bytes(), *map(_wrapped_key_bytes, self.wrapped_keys)))
        form = _DIGEST_FORM if self.context is None else _WHOLE_FORM
        return FIXED.pack(MAGIC, VERSION, self.chunk_size_log2, form, len(self.wrapped_keys), len(rest)) + rest

    def context_for(self, given: Mapping[str, str] | None) -> Mapping[str, str]:
        """The message's context, where `given` is that or nothing is given. Raises CONTEXT_MISMATCH."""
        if given is None and self.context is not None:
            return self.context
        if contexts.digest(contexts.canonical(given)) != self.context_digest:
            raise context_mismatch()
        return given or {}

    def _context_bytes(self) -> bytes:
        if self.context is None:
            return self.context_digest
        canonical = contexts.canonical(self.context)
        return _U16.pack(len(canonical)) + canonical


@dataclass(frozen=True, slots=True)
class ReadHeader:
    """A header as it was found: what it says, its bytes, and the tag behind them, which nobody has verified yet."""

    header: Header
    data: bytes
    tag: bytes


def read_header(read: Read) -> ReadHeader:
    """Reads a header with its tag, at most 65,580 bytes.

    Raises MESSAGE_NOT_RECOGNIZED, MESSAGE_VERSION_UNKNOWN, MESSAGE_CHUNK_SIZE_INVALID or MESSAGE_ALTERED.
    """
    fixed = read(FIXED.size)
    chunk_size_log2, form, count, length = _fixed_fields(fixed)
    rest = read(length + TAG_BYTES)
    if len(rest) != length + TAG_BYTES:
        raise altered()
    body, tag = rest[:length], rest[length:]
    fields = _Fields(body)
    digest, context = _context(fields, form)
    wrapped_keys = tuple(_wrapped_key(fields) for _ in range(count))
    fields.end()
    return ReadHeader(Header(wrapped_keys, digest, context, chunk_size_log2), fixed + body, tag)


def head_end(message: bytes) -> int:
    """Where header and tag of a message end, by the header's length; nothing else is looked at.

    Of what is too short to say so, some place within.
    """
    return FIXED.size + int.from_bytes(message[FIXED.size - _U16.size : FIXED.size], "big") + TAG_BYTES


def is_head_there(message: bytes) -> bool:
    """Whether the beginning of a message holds all of header and tag, or so much that it must be refused."""
    if not MAGIC.startswith(message[: len(MAGIC)]):
        return True
    return len(message) >= FIXED.size and len(message) >= head_end(message)


def _fixed_fields(fixed: bytes) -> tuple[int, int, int, int]:
    if len(fixed) <= len(MAGIC) or not fixed.startswith(MAGIC):
        raise not_recognized()
    if fixed[len(MAGIC)] != VERSION:
        raise version_unknown(fixed[len(MAGIC)], VERSION)
    if len(fixed) != FIXED.size:
        raise altered()
    _, _, chunk_size_log2, form, count, length = FIXED.unpack(fixed)
    if chunk_size_log2 not in CHUNK_SIZE_LOG2_RANGE:
        raise chunk_size_invalid(chunk_size_log2, CHUNK_SIZE_LOG2_RANGE[0], CHUNK_SIZE_LOG2_RANGE[-1])
    if form not in (_DIGEST_FORM, _WHOLE_FORM) or not 0 < count <= MAX_WRAPPED_KEYS:
        raise altered()
    return chunk_size_log2, form, count, length


def _context(fields: _Fields, form: int) -> tuple[bytes, Mapping[str, str] | None]:
    if form == _DIGEST_FORM:
        return fields.take(contexts.DIGEST_BYTES), None
    canonical = fields.take(fields.number(2))
    return contexts.digest(canonical), contexts.pairs_of(canonical)


def _wrapped_key(fields: _Fields) -> WrappedKey:
    key, mesh = _hint(fields), _hint(fields)
    length = fields.number(2)
    if not 0 < length <= MAX_ENCRYPTED_DATA_KEY_BYTES:
        raise altered()
    return WrappedKey(fields.take(length), key, mesh)


def _hint(fields: _Fields) -> str:
    text = fields.take(fields.number(1))
    if text.translate(None, _PRINTABLE):
        raise altered()
    return text.decode("ascii")


def _wrapped_key_bytes(wrapped: WrappedKey) -> bytes:
    if not 0 < len(wrapped.encrypted_data_key) <= MAX_ENCRYPTED_DATA_KEY_BYTES:
        raise StrongroomError("FIELD_TOO_LARGE", "an encrypted data key has 1 to 2,048 bytes", field="keys")
    length = _U16.pack(len(wrapped.encrypted_data_key))
    return _hint_bytes(wrapped.key) + _hint_bytes(wrapped.mesh) + length + wrapped.encrypted_data_key


def _hint_bytes(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > MAX_HINT_BYTES or encoded.translate(None, _PRINTABLE):
        raise StrongroomError(
            "FIELD_INVALID", "a hint has at most 255 printable ASCII characters and no space", field="keys"
        )
    return bytes((len(encoded),)) + encoded


class _Fields:
    """The rest of a header, field by field, which must end where the header does."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, size: int) -> int:
        """The next number, of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> bytes:
        """The next `size` bytes. Raises MESSAGE_ALTERED."""
        start, self._at = self._at, self._at + size
        if self._at > len(self._data):
            raise altered()
        return self._data[start : self._at]

    def end(self) -> None:
        """Raises MESSAGE_ALTERED unless every byte was taken."""
        if self._at != len(self._data):
            raise altered()
