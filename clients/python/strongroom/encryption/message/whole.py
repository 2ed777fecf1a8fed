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
        return keys.seal(content)
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


def open_body(keys: MessageKeys, body: memoryview, chunk_size: int) -> bytes:
    """The content of nonce prefix and chunks, all of it or nothing. Raises MESSAGE_ALTERED or MESSAGE_TOO_LARGE."""
    if len(body) < NONCE_PREFIX_BYTES + TAG_BYTES:
        raise altered()
    prefix, sealed = bytes(body[:NONCE_PREFIX_BYTES]), body[NONCE_PREFIX_BYTES:]
    if len(sealed) <= chunk_size + TAG_BYTES:
        return keys.open(prefix, bytes(sealed))
    layout, cipher = Layout(len(sealed), chunk_size), keys.cipher(prefix)
    content = bytearray(layout.content_bytes)
    opened = memoryview(content)
    for number in range(layout.chunks):
        start, length = layout.sealed_range(number)
        piece = opened[number * chunk_size :][: length - TAG_BYTES]
        cipher.open(number, number == layout.chunks - 1, sealed[start : start + length], piece)
    return bytes(content)
