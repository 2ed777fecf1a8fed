"""Envelope encryption of files: each file under a data key of its own, which only Strongroom can decrypt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from strongroom import file_format
from strongroom.atomic import check_destination, replacing
from strongroom.file_format import DATA_KEY_BYTES, Header, Progress

if TYPE_CHECKING:
    from strongroom.client import Client


@dataclass(frozen=True, slots=True)
class FileResult:
    """A file that was encrypted or decrypted: where it is, and `size`, the bytes of its content.

    `key_version` is the full name of the key version that encrypted its data key; `event_id` the audit event
    of that encryption or decryption.
    """

    path: Path
    size: int
    key_version: str
    event_id: str


def encrypt_file(
    client: Client,
    key: str,
    source: Path,
    destination: Path,
    *,
    context: Mapping[str, str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> FileResult:
    """Encrypts `source` into `destination` (mode 0600) under a fresh data key of `key`, in constant memory.

    `context` is not stored in the file: decryption must name the same. `progress` is called with the bytes of
    content just done with. The destination appears whole or not at all. Raises FILE_EXISTS unless
    `overwrite`; whatever `Client.generate_data_key` raises; OSError.
    """
    check_destination(destination, overwrite=overwrite)
    with _opened(source) as content:
        data_key = client.generate_data_key(key, context, byte_count=DATA_KEY_BYTES)
        header = Header.fresh(data_key.ciphertext)
        with replacing(destination, overwrite=overwrite) as sealed:
            size = file_format.encrypt_stream(data_key.plaintext, header, content, sealed, progress or _unwatched)
    return FileResult(destination, size, data_key.key_version, data_key.event_id)


def decrypt_file(
    client: Client,
    source: Path,
    destination: Path,
    *,
    key: str = "",
    context: Mapping[str, str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> FileResult:
    """Decrypts `source` into `destination` (mode 0600), which appears once all of the file has been verified.

    `context` is the one that the file was encrypted with. With `key`, only a file under that key is accepted.
    `progress` is called with the bytes of content just done with. Raises FILE_NOT_RECOGNIZED, FILE_ALTERED,
    FILE_EXISTS unless `overwrite`; whatever `Client.decrypt` raises; OSError.
    """
    check_destination(destination, overwrite=overwrite)
    with _opened(source) as sealed:
        header, commitment = file_format.read_header(sealed)
        data_key = client.decrypt(header.encrypted_data_key, context, key=key)
        with replacing(destination, overwrite=overwrite) as content:
            size = file_format.decrypt_stream(
                data_key.plaintext, header, commitment, sealed, content, progress or _unwatched
            )
    return FileResult(destination, size, data_key.key_version, data_key.event_id)


def _opened(path: Path) -> FileIO:
    return FileIO(path, "r")


def _unwatched(count: int) -> None:
    del count
