"""The encrypted file, byte for byte (docs/formats.md, "Encrypted files"), as streams in constant memory.

A file key is derived from a data key; the content is cut into chunks that are sealed with AES-256-GCM in the
STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", CRYPTO 2015, §7): each nonce says where its chunk belongs and whether it is the last. So
chunks that are altered, dropped, repeated, moved, cut off or added are refused, also at the border of a
chunk.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from strongroom.errors import StrongroomError

MAGIC = b"\x89SRFILE"
VERSION = 1
DATA_KEY_BYTES = 32
TAG_BYTES = 16
CHUNK_SIZE_LOG2 = 20
CHUNK_SIZE_LOG2_RANGE = range(6, 25)
MAX_ENCRYPTED_DATA_KEY_BYTES = 4096

_MAX_CHUNKS = 1 << 32
_LABEL = b"strongroom file v1"
_COMMITMENT_BYTES = 32
# magic, version, log2 of the chunk size, salt, nonce prefix, length of the encrypted data key
_FIXED = struct.Struct(">7sBB32s7sH")
_NONCE = struct.Struct(">7sIB")

Progress = Callable[[int], None]


class Source(Protocol):
    """What content is read from: an unbuffered binary file."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Reads up to the buffer's size; 0 at the end."""


class Sink(Protocol):
    """What content is written to: an unbuffered binary file."""

    def write(self, data: memoryview, /) -> int | None:
        """Writes some or all of `data` and says how many bytes."""


@dataclass(frozen=True, slots=True)
class Header:
    """What precedes the chunks. Nothing in it is secret; all of it is authenticated."""

    encrypted_data_key: bytes
    salt: bytes
    nonce_prefix: bytes
    chunk_size_log2: int = CHUNK_SIZE_LOG2

    @classmethod
    def fresh(cls, encrypted_data_key: bytes, chunk_size_log2: int = CHUNK_SIZE_LOG2) -> Header:
        """The header of a new file."""
        return cls(encrypted_data_key, os.urandom(32), os.urandom(7), chunk_size_log2)

    @property
    def chunk_size(self) -> int:
        """Bytes of content in each chunk but the last."""
        return 1 << self.chunk_size_log2

    def to_bytes(self) -> bytes:
        """The header as it is in the file, without the commitment that follows it."""
        fixed = _FIXED.pack(
            MAGIC, VERSION, self.chunk_size_log2, self.salt, self.nonce_prefix, len(self.encrypted_data_key)
        )
        return fixed + self.encrypted_data_key


class ChunkCipher:
    """One file's key with its nonces."""

    def __init__(self, data_key: bytes, header: Header) -> None:
        if len(data_key) != DATA_KEY_BYTES:
            raise StrongroomError("FIELD_INVALID", f"a file's data key has {DATA_KEY_BYTES} bytes", field="data_key")
        derived = HKDF(SHA256(), 32 + _COMMITMENT_BYTES, header.salt, _LABEL + header.to_bytes()).derive(data_key)
        self.commitment = derived[32:]
        self._cipher = AESGCM(derived[:32])
        self._prefix = header.nonce_prefix

    def seal(self, number: int, last: bool, content: memoryview, sealed: memoryview) -> None:
        """Encrypts the chunk `number`, counted from 0, into `sealed`, which is 16 bytes longer."""
        self._cipher.encrypt_into(self._nonce(number, last), content, None, sealed)

    def open(self, number: int, last: bool, sealed: memoryview, content: memoryview) -> None:
        """Verifies and decrypts a chunk into `content`. Raises FILE_ALTERED."""
        try:
            self._cipher.decrypt_into(self._nonce(number, last), sealed, None, content)
        except InvalidTag:
            raise altered() from None

    def _nonce(self, number: int, last: bool) -> bytes:
        if number >= _MAX_CHUNKS:
            raise StrongroomError("FIELD_TOO_LARGE", f"a file has at most {_MAX_CHUNKS} chunks", field="source")
        return _NONCE.pack(self._prefix, number, last)


def altered() -> StrongroomError:
    """What every file that fails verification gets: it does not say where or how."""
    return StrongroomError(
        "FILE_ALTERED",
        "the file was altered or cut off since it was encrypted; nothing was written",
        code="DATA_LOSS",
    )


def encrypt_stream(data_key: bytes, header: Header, source: Source, sink: Sink, progress: Progress) -> int:
    """Writes the whole encrypted file to `sink`; answers how many bytes of content it holds.

    `header` must be fresh: its salt and nonce prefix serve one file. `progress` gets the bytes of content
    done with, chunk by chunk.
    """
    cipher = ChunkCipher(data_key, header)
    write_all(sink, memoryview(header.to_bytes() + cipher.commitment))
    size = header.chunk_size
    current, ahead = memoryview(bytearray(size)), memoryview(bytearray(size))
    sealed = memoryview(bytearray(size + TAG_BYTES))
    filled, number, total, last = read_full(source, current), 0, 0, False
    while not last:
        # Only what follows a chunk tells that it is not the last.
        following = read_full(source, ahead) if filled == size else 0
        last = following == 0
        chunk = sealed[: filled + TAG_BYTES]
        cipher.seal(number, last, current[:filled], chunk)
        write_all(sink, chunk)
        progress(filled)
        total, number = total + filled, number + 1
        current, ahead, filled = ahead, current, following
    return total


def read_header(source: Source) -> tuple[Header, bytes]:
    """Reads the header, and the commitment that follows it. Raises FILE_NOT_RECOGNIZED or FILE_ALTERED."""
    fixed = _read_exactly(source, _FIXED.size, _not_recognized)
    magic, version, chunk_size_log2, salt, nonce_prefix, length = _FIXED.unpack(fixed)
    if magic != MAGIC:
        raise _not_recognized()
    if version != VERSION:
        raise StrongroomError(
            "FILE_NOT_RECOGNIZED",
            f"the file is of format version {version}; this client reads version {VERSION}",
        )
    if chunk_size_log2 not in CHUNK_SIZE_LOG2_RANGE or not 0 < length <= MAX_ENCRYPTED_DATA_KEY_BYTES:
        raise altered()
    header = Header(_read_exactly(source, length, altered), salt, nonce_prefix, chunk_size_log2)
    return header, _read_exactly(source, _COMMITMENT_BYTES, altered)


def decrypt_stream(
    data_key: bytes, header: Header, commitment: bytes, source: Source, sink: Sink, progress: Progress
) -> int:
    """Verifies and writes the content, with `source` standing behind what `read_header` read; answers its
    size.

    What reaches `sink` before the end is content that somebody who has the file may have cut off: keep it
    aside until this returns. Raises FILE_ALTERED.
    """
    if len(data_key) != DATA_KEY_BYTES:  # another ciphertext was put in the data key's place
        raise altered()
    cipher = ChunkCipher(data_key, header)
    if not compare_digest(cipher.commitment, commitment):
        raise altered()
    size = header.chunk_size + TAG_BYTES
    current, ahead = memoryview(bytearray(size)), memoryview(bytearray(size))
    content = memoryview(bytearray(header.chunk_size))
    filled, number, total, last = read_full(source, current), 0, 0, False
    while not last:
        following = read_full(source, ahead) if filled == size else 0
        last = following == 0
        length = filled - TAG_BYTES
        # One content has one encoding: an empty chunk is for an empty file alone.
        if length < 0 or (length == 0 and number > 0):
            raise altered()
        chunk = content[:length]
        cipher.open(number, last, current[:filled], chunk)
        write_all(sink, chunk)
        progress(length)
        total, number = total + length, number + 1
        current, ahead, filled = ahead, current, following
    return total


def read_full(source: Source, buffer: memoryview) -> int:
    """Fills `buffer` unless the source ends first; answers how many bytes were read."""
    filled = 0
    while filled < len(buffer):
        count = source.readinto(buffer[filled:])
        if not count:
            break
        filled += count
    return filled


def write_all(sink: Sink, data: memoryview) -> None:
    """Writes all of `data`, however little the sink takes at once."""
    while len(data):
        data = data[sink.write(data) or 0 :]


def _read_exactly(source: Source, size: int, refusal: Callable[[], StrongroomError]) -> bytes:
    buffer = bytearray(size)
    if read_full(source, memoryview(buffer)) < size:
        raise refusal()
    return bytes(buffer)


def _not_recognized() -> StrongroomError:
    return StrongroomError("FILE_NOT_RECOGNIZED", "the file is not one that `strongroom file encrypt` wrote")
