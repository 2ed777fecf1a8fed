"""Messages that are in memory as a whole."""

from __future__ import annotations

import os

from strongroom.encryption.message.body import (
    NONCE_PREFIX_BYTES,
    TAG_BYTES,
    Layout,
    MessageKeys,
    body_bytes_of,
)
from strongroom.encryption.message.refusals import altered


def seal_body(keys: MessageKeys, content: bytes, chunk_size: int, nonce_prefix: bytes = b"") -> bytes:
    """Nonce prefix and chunks of a message; `nonce_prefix` is drawn where none is given, as it is for all but tests.

    Raises MESSAGE_TOO_LARGE.
    """
    if len(content) <= chunk_size and not nonce_prefix:
        return keys.seal(content, b"")
    prefix = nonce_prefix or os.urandom(NONCE_PREFIX_BYTES)
    size = body_bytes_of(len(content), chunk_size)
    body = bytearray(NONCE_PREFIX_BYTES + size)
    body[:NONCE_PREFIX_BYTES] = prefix
    layout, cipher = Layout(size, chunk_size), keys.cipher(prefix)
    source, sealed = memoryview(content), memoryview(body)[NONCE_PREFIX_BYTES:]
    for number in range(layout.chunks):
        start, length = layout.sealed_range(number)
        piece = source[number * chunk_size :][: length - TAG_BYTES]
        cipher.seal(number, number == layout.chunks - 1, piece, sealed[start : start + length])
    return bytes(body)


def open_body(keys: MessageKeys, message: bytes, start: int, chunk_size: int) -> bytes:
    """The content of the body that begins at `start`, all of it or nothing.

    Raises MESSAGE_ALTERED or MESSAGE_TOO_LARGE.
    """
    chunks = start + NONCE_PREFIX_BYTES
    size = len(message) - chunks
    if size < TAG_BYTES:
        raise altered()
    prefix = message[start:chunks]
    if size <= chunk_size + TAG_BYTES:
        return keys.open(prefix, message[chunks:])
    layout, cipher = Layout(size, chunk_size), keys.cipher(prefix)
    content = bytearray(layout.content_bytes)
    opened, sealed = memoryview(content), memoryview(message)[chunks:]
    for number in range(layout.chunks):
        start, length = layout.sealed_range(number)
        piece = opened[number * chunk_size :][: length - TAG_BYTES]
        cipher.open(number, number == layout.chunks - 1, sealed[start : start + length], piece)
    return bytes(content)
