"""What a message says about itself, to whoever has no key."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from strongroom.encryption.message.body import NONCE_PREFIX_BYTES, TAG_BYTES, Layout
from strongroom.encryption.message.header import TAG_BYTES as HEADER_TAG_BYTES
from strongroom.encryption.message.header import VERSION, read_header
from strongroom.encryption.message.refusals import altered
from strongroom.encryption.streams.reading import whole_reads


@dataclass(frozen=True, slots=True)
class InspectedKey:
    """One key that a message claims to be under: its name and mesh, empty where the writer did not tell."""

    key: str
    mesh: str
    encrypted_data_key_size: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the header of a message says. Nothing of it is verified: whoever can write the message can write this.

    `context` is the encryption context, None where the message holds its digest alone; `size` the content's bytes, None
    where the message is in a file that cannot seek.
    """

    version: int
    keys: tuple[InspectedKey, ...]
    context: Mapping[str, str] | None
    context_digest: str
    chunk_size: int
    header_size: int
    size: int | None


def inspect(message: bytes | BinaryIO) -> Inspection:
    """Reads the header of a message, or of one in a file, and calls nobody.

    Raises MESSAGE_NOT_RECOGNIZED, MESSAGE_VERSION_UNKNOWN, MESSAGE_CHUNK_SIZE_INVALID, MESSAGE_ALTERED.
    """
    file: BinaryIO = io.BytesIO(message) if isinstance(message, bytes) else message
    found = read_header(whole_reads(file))
    header = found.header
    keys = (InspectedKey(one.key, one.mesh, len(one.encrypted_data_key)) for one in header.wrapped_keys)
    return Inspection(
        version=VERSION,
        keys=tuple(keys),
        context=header.context,
        context_digest=header.context_digest.hex(),
        chunk_size=header.chunk_size,
        header_size=len(found.data) + HEADER_TAG_BYTES,
        size=_content_bytes(file, header.chunk_size) if file.seekable() else None,
    )


def _content_bytes(file: BinaryIO, chunk_size: int) -> int:
    start = file.tell()
    body = file.seek(0, io.SEEK_END) - start - NONCE_PREFIX_BYTES
    file.seek(start)
    if body < TAG_BYTES:
        raise altered()
    return Layout(body, chunk_size).content_bytes
