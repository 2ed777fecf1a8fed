"""The body of a message: its keys, and chunks that are sealed with XAES-256-GCM in the STREAM construction.

The nonce of a chunk says to which message it belongs, where in it, and whether it is the last (Hoang, Reyhanitabar,
Rogaway, Vizár: "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015, §7). XAES-256-GCM
(https://c2sp.org/XAES-256-GCM) derives an AES key from the first half of the nonce, which all chunks of a message
share, so that a message costs two blocks of AES and not a hash.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hmac import compare_digest
from hmac import digest as hmac_digest
from os import urandom
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from strongroom.encryption.message.refusals import altered, too_large

DATA_KEY_BYTES = 32
NONCE_PREFIX_BYTES = 19
TAG_BYTES = 16
MAX_CHUNKS = (1 << 32) - 1

_LABEL = b"strongroom message v2"
_DERIVED_BYTES = 12  # of the nonce prefix, which the key of a message is derived from
_BLOCK = 16
_PLACE = Struct(">IB")
_ONLY_CHUNK = _PLACE.pack(0, 1)
_IN_BOTH = 1 << 8 * _BLOCK | 1

Take = Callable[[memoryview], object]
"""Takes a part of a message, in memory that is used again once it returns."""


class MessageKeys:
    """What is derived from one data key, for one encryption context and size of chunks; used for many messages.

    Raises MESSAGE_ALTERED for a data key that has not 32 bytes: another ciphertext was put in its place.
    """

    def __init__(self, data_key: bytes, chunk_size_log2: int, context_digest: bytes) -> None:
        if len(data_key) != DATA_KEY_BYTES:
            raise altered()
        info = _LABEL + bytes((chunk_size_log2,)) + context_digest
        derived = HKDF(SHA256(), 64, None, info).derive(data_key)
        self._header_key = derived[32:]
        # Single blocks of a key derivation, which the lint takes for a way to encrypt content.
        self._block = Cipher(algorithms.AES(derived[:32]), modes.ECB()).encryptor().update  # noqa: S305
        subkey = _doubled(self._block(bytes(_BLOCK)))
        counters = bytes.fromhex("00015800") + bytes(_DERIVED_BYTES), bytes.fromhex("00025800") + bytes(_DERIVED_BYTES)
        self._counters = int.from_bytes(b"".join(counters), "big") ^ subkey << 8 * _BLOCK ^ subkey
        self.seal = _sealing(self._block, self._counters)

    def header_tag(self, header: bytes) -> bytes:
        """What authenticates a header, and commits to the data key."""
        return hmac_digest(self._header_key, header, "sha256")

    def verify(self, header: bytes, tag: bytes) -> None:
        """Raises MESSAGE_ALTERED unless `tag` is the header's."""
        if not compare_digest(self.header_tag(header), tag):
            raise altered()

    def cipher(self, nonce_prefix: bytes) -> ChunkCipher:
        """What seals and opens the chunks of the message with this nonce prefix."""
        return ChunkCipher(self._message_key(nonce_prefix), nonce_prefix)

    def open(self, prefix: bytes, chunk: bytes | memoryview) -> bytes:
        """The content of a message of one chunk. Raises MESSAGE_ALTERED."""
        try:
            nonce = prefix[_DERIVED_BYTES:] + _ONLY_CHUNK
            return AESGCM(self._message_key(prefix)).decrypt(nonce, chunk, None)
        except InvalidTag:
            raise altered() from None

    def _message_key(self, prefix: bytes) -> bytes:
        # Both blocks of SP 800-108 at once: the same twelve bytes into each.
        both = int.from_bytes(prefix[:_DERIVED_BYTES], "big") * _IN_BOTH
        return self._block((self._counters ^ both).to_bytes(32, "big"))


class ChunkCipher:
    """One message's key with its nonces."""

    def __init__(self, key: bytes, nonce_prefix: bytes) -> None:
        self._cipher = AESGCM(key)
        self._nonce_start = nonce_prefix[_DERIVED_BYTES:]

    def seal(self, number: int, last: bool, content: memoryview, sealed: memoryview) -> None:
        """Encrypts the chunk `number`, counted from 0, into `sealed`, which is 16 bytes longer.

        Raises MESSAGE_TOO_LARGE.
        """
        self._cipher.encrypt_into(self._nonce(number, last), content, None, sealed)

    def open(self, number: int, last: bool, sealed: memoryview, content: memoryview) -> None:
        """Verifies and decrypts a chunk into `content`. Raises MESSAGE_ALTERED or MESSAGE_TOO_LARGE."""
        try:
            self._cipher.decrypt_into(self._nonce(number, last), sealed, None, content)
        except InvalidTag:
            _wipe(content)
            raise altered() from None

    def seal_run(self, number: int, content: memoryview, places: Sequence[memoryview], take: Take) -> int:
        """Encrypts whole chunks as far as more follows, and answers how many bytes of `content` they are.

        `places` lie one behind the other, each as large as a sealed chunk; `take` gets what is in one or in all of
        them, before they are used again. Raises MESSAGE_TOO_LARGE.
        """
        size, together = len(places[0]) - TAG_BYTES, len(places)
        left = (len(content) - 1) // size
        self._check_run(number, left)
        encrypt, start, pack, at = self._cipher.encrypt_into, self._nonce_start, _PLACE.pack, 0
        whole = memoryview(places[0].obj)
        while left:
            filled = places if left >= together else places[:1]
            for place in filled:
                encrypt(start + pack(number, 0), content[at : at + size], None, place)
                at += size
                number += 1
            take(whole if filled is places else places[0])
            left -= len(filled)
        return at

    def open_run(self, number: int, count: int, size: int, sealed: memoryview, content: memoryview) -> None:
        """Verifies and decrypts `count` whole chunks of `size` bytes, none of them the last.

        Raises MESSAGE_ALTERED or MESSAGE_TOO_LARGE.
        """
        self._check_run(number, count)
        decrypt, start, pack, taken = self._cipher.decrypt_into, self._nonce_start, _PLACE.pack, size + TAG_BYTES
        at = into = 0
        try:
            for chunk in range(number, number + count):
                decrypt(start + pack(chunk, 0), sealed[at : at + taken], None, content[into : into + size])
                at += taken
                into += size
        except InvalidTag:
            _wipe(content)
            raise altered() from None

    def _nonce(self, number: int, last: bool) -> bytes:
        self._check_run(number, 1)
        return self._nonce_start + _PLACE.pack(number, last)

    def _check_run(self, number: int, count: int) -> None:
        if number + count > MAX_CHUNKS:
            raise too_large()


def _wipe(content: memoryview) -> None:
    """What was decrypted before its tag was found wrong stays in nobody's buffer."""
    content[:] = bytes(len(content))


class Layout:
    """Where the chunks of a body are, by its length behind the nonce prefix.

    Raises MESSAGE_ALTERED for a length that no body has, and MESSAGE_TOO_LARGE.
    """

    def __init__(self, body_bytes: int, chunk_size: int) -> None:
        self.chunk_size = chunk_size
        self.sealed_chunk_size = chunk_size + TAG_BYTES
        if body_bytes < TAG_BYTES:
            raise altered()
        self.chunks = -(-body_bytes // self.sealed_chunk_size)
        if self.chunks > MAX_CHUNKS:
            raise too_large()
        last = body_bytes - (self.chunks - 1) * self.sealed_chunk_size
        # One content has one encoding: an empty chunk is for an empty message alone.
        if last < TAG_BYTES or (last == TAG_BYTES and self.chunks > 1):
            raise altered()
        self.content_bytes = body_bytes - self.chunks * TAG_BYTES

    def sealed_range(self, number: int) -> tuple[int, int]:
        """Where a chunk begins behind the nonce prefix, and how many bytes it has, tag included."""
        size = min(self.chunk_size, self.content_bytes - number * self.chunk_size)
        return number * self.sealed_chunk_size, size + TAG_BYTES


def body_bytes_of(content_bytes: int, chunk_size: int) -> int:
    """How many bytes a content has as a body, behind the nonce prefix."""
    return content_bytes + TAG_BYTES * max(1, -(-content_bytes // chunk_size))


def _sealing(block: Callable[[bytes], bytes], counters: int) -> Callable[[bytes, bytes], bytes]:
    """What answers a beginning and behind it the body of a new message of one chunk, which the content must fit in.

    A closure over what it needs: looking that up in an object would take a tenth of its time.
    """
    number_of, derived, in_both = int.from_bytes, _DERIVED_BYTES, _IN_BOTH
    rest = 8 * (NONCE_PREFIX_BYTES - derived)

    def seal(content: bytes, beginning: bytes) -> bytes:
        prefix = urandom(NONCE_PREFIX_BYTES)
        key = block((counters ^ (number_of(prefix) >> rest) * in_both).to_bytes(32))
        return beginning + prefix + AESGCM(key).encrypt(prefix[derived:] + _ONLY_CHUNK, content, None)

    return seal


def _doubled(block: bytes) -> int:
    """The first subkey of CMAC (NIST SP 800-38B, §6.1), from the encryption of the zero block."""
    number = int.from_bytes(block, "big") << 1
    overflow = number >> 8 * _BLOCK
    return (number & (1 << 8 * _BLOCK) - 1) ^ 0x87 * overflow
