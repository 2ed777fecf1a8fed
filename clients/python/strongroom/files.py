"""Envelope encryption of files: each file is an encrypted message, which only keys of the mesh open.

Files of version 1, which there were before messages, are still read (docs/formats.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import FileIO, RawIOBase
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from strongroom import file_format
from strongroom.atomic import check_destination, replacing
from strongroom.encryption.client import EncryptionClient
from strongroom.encryption.inspection import InspectedKey, Inspection, inspect
from strongroom.encryption.keys import ANY_KEY, KeyCalls, Keys
from strongroom.encryption.message.body import Layout
from strongroom.encryption.message.header import MAGIC, read_header
from strongroom.errors import StrongroomError
from strongroom.file_format import Progress, Sink, Source, read_full, write_all

if TYPE_CHECKING:
    from strongroom.client import Client
    from strongroom.encryption.cache import DataKeyCache

CHUNK_SIZE_LOG2 = 20

# What programs that decrypt files have switched on since version 1.
_REASONS_OF_FILES = {
    "MESSAGE_ALTERED": "FILE_ALTERED",
    "MESSAGE_CHUNK_SIZE_INVALID": "FILE_ALTERED",
    "MESSAGE_NOT_RECOGNIZED": "FILE_NOT_RECOGNIZED",
    "MESSAGE_VERSION_UNKNOWN": "FILE_NOT_RECOGNIZED",
    "CONTEXT_MISMATCH": "CIPHERTEXT_INVALID",
    "KEY_NOT_ACCEPTED": "KEY_MISMATCH",
}


@dataclass(frozen=True, slots=True)
class Written:
    """What was written somewhere: bytes of content, and what `FileResult` says of the data key."""

    size: int
    key_version: str
    event_id: str

    def at(self, path: Path) -> FileResult:
        """What came of the file that was written to `path`."""
        return FileResult(path, self.size, self.key_version, self.event_id)


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


class FileEncryption:
    """Encrypts and decrypts files for one set of keys.

    Args:
        client: reaches the mesh of keys that are given by name.
        keys: what files are encrypted under, all of them, and the only ones that decryption accepts.
        cache: for many files: without, each has a data key of its own.
        store_context: write the encryption context itself into files, so that readers need not know it.
    """

    def __init__(
        self, client: KeyCalls, keys: Keys, *, cache: DataKeyCache | None = None, store_context: bool = False
    ) -> None:
        self._encryption = EncryptionClient(
            client, keys, cache=cache, store_context=store_context, chunk_size_log2=CHUNK_SIZE_LOG2
        )

    def encrypt(
        self, source: Source, sink: Sink, context: Mapping[str, str] | None = None, progress: Progress | None = None
    ) -> Written:
        """Writes the encrypted file to `sink`, in constant memory.

        `progress` is called with the bytes of content just done with. Raises what `Client.generate_data_key` does.
        """
        beginning = self._encryption.begin(context)
        sealer = self._encryption.sealer_of(beginning, context)(partial(write_all, sink))
        size = 0
        for piece in _pieces(source):
            sealer.update(piece)
            _tell(progress, len(piece))
            size += len(piece)
        sealer.finish()
        return Written(size, beginning.key_version, beginning.event_id)

    def decrypt(
        self, source: Source, sink: Sink, context: Mapping[str, str] | None = None, progress: Progress | None = None
    ) -> Written:
        """Writes the content of an encrypted file of either version to `sink`, in constant memory.

        What reaches `sink` before this returns is content that somebody who has the file may have cut off: keep it
        aside until then. Raises FILE_NOT_RECOGNIZED, FILE_ALTERED, and what `Client.decrypt` does.
        """
        begun = _Begun(source)
        if begun.first == MAGIC + bytes((file_format.VERSION,)):
            return self._decrypt_version_1(begun, sink, context, progress)
        with _reasons_of_files():
            return self._decrypt_message(begun, sink, context, progress)

    def rewrap(
        self,
        source: Source,
        sink: Sink,
        keys: Keys,
        context: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        *,
        reopen: bool = False,
    ) -> Written:
        """Writes a file under other keys, with the same body; its size is the encrypted file's. With `reopen`, only
        where one of them opens it for this caller.

        Raises what `decrypt` does, and FILE_NOT_RECOGNIZED for version 1: encrypt its content anew.
        """
        with _reasons_of_files():
            found = read_header(partial(_read, source))
            head = found.data + found.tag
            opened = self._encryption.open_head(head, context)
            moved = self._encryption.rewrapped_head(opened, keys)
            if reopen:
                self._require_open(moved, keys, context)
        write_all(sink, memoryview(moved))
        size = len(moved)
        for piece in _pieces(source):
            write_all(sink, piece)
            _tell(progress, len(piece))
            size += len(piece)
        return Written(size, opened.key_version, opened.event_id)

    def _require_open(self, head: bytes, keys: Keys, context: Mapping[str, str] | None) -> None:
        try:
            self._encryption.open_head(head, context, keys)
        except StrongroomError as error:
            message = f"none of the new keys would open it for you: {error.message}"
            raise StrongroomError(error.reason, message, code=error.code_name, event_id=error.event_id) from None

    def _decrypt_message(
        self, source: Source, sink: Sink, context: Mapping[str, str] | None, progress: Progress | None
    ) -> Written:
        found = read_header(partial(_read, source))
        head = found.data + found.tag
        opened = self._encryption.open_head(head, context)
        opener = self._encryption.opener_of(opened, head, context)
        size = 0
        for content in chain(chain.from_iterable(map(opener.update, _pieces(source))), opener.finish()):
            write_all(sink, content)
            _tell(progress, len(content))
            size += len(content)
        return Written(size, opened.key_version, opened.event_id)

    def _decrypt_version_1(
        self, source: Source, sink: Sink, context: Mapping[str, str] | None, progress: Progress | None
    ) -> Written:
        header, commitment = file_format.read_header(source)
        key, *others = self._encryption.keys
        while True:
            try:
                data_key = key.unwrap(header.encrypted_data_key, context or {})
                break
            except StrongroomError as refusal:
                if refusal.reason != "KEY_MISMATCH" or not others:
                    raise
                key, *others = others
        size = file_format.decrypt_stream(
            data_key.plaintext, header, commitment, source, sink, partial(_tell, progress)
        )
        return Written(size, data_key.key_version, data_key.event_id)


def encrypt_file(
    client: Client,
    key: Keys,
    source: Path,
    destination: Path,
    *,
    context: Mapping[str, str] | None = None,
    store_context: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> FileResult:
    """Encrypts `source` into `destination` (mode 0600) under a fresh data key of `key`, in constant memory.

    Of several keys, any one opens the file. `context` is not stored in the file unless `store_context` says so:
    decryption must name the same. `progress` is called with the bytes of content just done with. The destination
    appears whole or not at all. Raises FILE_EXISTS unless `overwrite`; whatever `Client.generate_data_key` raises;
    OSError.
    """
    encryption = FileEncryption(client, key, store_context=store_context)
    with _replaced(source, destination, overwrite=overwrite) as (content, sealed):
        written = encryption.encrypt(content, sealed, context, progress)
    return written.at(destination)


def decrypt_file(
    client: Client,
    source: Path,
    destination: Path,
    *,
    key: Keys = "",
    context: Mapping[str, str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> FileResult:
    """Decrypts `source` into `destination` (mode 0600), which appears once all of the file has been verified.

    `context` is the one that the file was encrypted with. With `key`, only a file under that key, or under one of
    several, is accepted. `progress` is called with the bytes of content just done with. Raises FILE_NOT_RECOGNIZED,
    FILE_ALTERED, FILE_EXISTS unless `overwrite`; whatever `Client.decrypt` raises; OSError.
    """
    encryption = FileEncryption(client, key or ANY_KEY)
    with _replaced(source, destination, overwrite=overwrite) as (sealed, content):
        written = encryption.decrypt(sealed, content, context, progress)
    return written.at(destination)


def inspect_file(path: Path) -> Inspection:
    """What an encrypted file of either version says about itself; nothing of it is verified, and nobody is called.

    Raises FILE_NOT_RECOGNIZED, FILE_ALTERED, OSError.
    """
    with FileIO(path, "r") as file:
        return inspect_source(file)


def inspect_source(file: FileIO) -> Inspection:
    """What an encrypted file says about itself, from its begin on; of a pipe, all but the size of its content.

    Raises FILE_NOT_RECOGNIZED, FILE_ALTERED, OSError.
    """
    begin = file.tell() if file.seekable() else 0
    begun = _Begun(file)
    if begun.first != MAGIC + bytes((file_format.VERSION,)):
        if file.seekable():
            file.seek(begin)
        with _reasons_of_files():
            return inspect(cast("BinaryIO", file if file.seekable() else _Pipe(begun)))
    header, commitment = file_format.read_header(begun)
    head = len(header.to_bytes()) + len(commitment)
    size = None
    if file.seekable():
        with _reasons_of_files():
            size = Layout(file.seek(0, os.SEEK_END) - begin - head, header.chunk_size).content_bytes
    key = InspectedKey("", "", len(header.encrypted_data_key))
    return Inspection(file_format.VERSION, (key,), None, "", header.chunk_size, head, size)


class _Begun:
    """A source whose first bytes were looked at, and are read again."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.first = self._ahead = _read(source, len(MAGIC) + 1)

    def readinto(self, buffer: memoryview, /) -> int | None:
        """The first bytes once more, then what follows."""
        if not self._ahead:
            return self._source.readinto(buffer)
        count = min(len(buffer), len(self._ahead))
        buffer[:count] = self._ahead[:count]
        self._ahead = self._ahead[count:]
        return count


class _Pipe(RawIOBase):
    """A source as a file that cannot seek."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        """Reads up to the buffer's size; 0 at the end."""
        return self._source.readinto(memoryview(buffer))


@contextmanager
def _replaced(source: Path, destination: Path, *, overwrite: bool) -> Iterator[tuple[FileIO, FileIO]]:
    """What to read, and what to write: the destination, once the block ends without an error."""
    check_destination(destination, overwrite=overwrite)
    with FileIO(source, "r") as read, replacing(destination, overwrite=overwrite) as written:
        yield read, written


@contextmanager
def _reasons_of_files() -> Iterator[None]:
    """Gives a message's refusals the reasons that files of version 1 have for the same."""
    try:
        yield
    except StrongroomError as error:
        reason = _REASONS_OF_FILES.get(error.reason)
        if reason is None:
            raise
        message = error.message.replace("the message", "the file")
        raise StrongroomError(reason, message, code=error.code.name, metadata={"reason": error.reason}) from None


def _read(source: Source, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: read_full(source, memoryview(buffer))])


def _pieces(source: Source) -> Iterator[memoryview]:
    """All that is left, in one memory that is used again."""
    buffer = memoryview(bytearray(1 << CHUNK_SIZE_LOG2))
    while count := read_full(source, buffer):
        yield buffer[:count]


def _tell(progress: Progress | None, count: int) -> None:
    if progress is not None:
        progress(count)
