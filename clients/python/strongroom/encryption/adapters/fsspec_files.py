"""An encrypting file system over any other that fsspec knows (`pip install strongroom[fsspec]`).

    from fsspec.implementations.local import LocalFileSystem
    from strongroom.encryption.adapters.fsspec_files import EncryptedFileSystem

    files = EncryptedFileSystem(LocalFileSystem(), encryption)
    pandas.read_parquet("/data/orders", filesystem=files)

Each file is one encrypted message; names and sizes are not hidden. Reads are anywhere in a file, and decrypt no more
than the chunks that they are from.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from fsspec.core import get_compression
from fsspec.spec import AbstractFileSystem
from fsspec.utils import stringify_path

from strongroom.encryption.client import EncryptionClient
from strongroom.encryption.inspection import inspect
from strongroom.encryption.streams.files import DecryptingFile, DecryptingStream, EncryptingFile
from strongroom.errors import StrongroomError

Contexts = Mapping[str, str] | Callable[[str], Mapping[str, str]] | None
"""The encryption context of every file, or what answers it for a path: so that files cannot change places."""


class EncryptingText(io.TextIOWrapper):
    """Text that is written into a message; one that an exception leaves stays without end."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and isinstance(self.buffer, EncryptingFile):
            self.buffer.abort()
        super().__exit__(kind, error, trace)


class EncryptedFileSystem(AbstractFileSystem):
    """Encrypts what is written into another file system, and decrypts what is read from it.

    A file that an exception left unfinished is refused when it is read. Files are written from their beginning, and not
    appended to.

    Args:
        fs: where the encrypted files are.
        encryption: encrypts and decrypts; give it a cache where there are many files.
        context: the encryption context, or a function of the path as `fs` writes it (absolute, of local files).
    """

    protocol = "strongroom"
    # Two with equal arguments need not share an encryption client that was closed.
    cachable = False

    def __init__(self, fs: AbstractFileSystem, encryption: EncryptionClient, context: Contexts = None) -> None:
        super().__init__()
        self._below = fs
        self._encryption = encryption
        self._context = context

    def open(
        self, path: Any, mode: str = "rb", block_size: Any = None, cache_options: Any = None, **options: Any
    ) -> Any:
        """Opens a file, as text where `mode` has no `b`. To write a compressed one, open your compressor over it."""
        if "w" in mode and get_compression(self._strip_protocol(path), options.pop("compression", None)):
            # fsspec's compressors do not close what is below them: without that, a message has no end.
            raise NotImplementedError("an encrypted file is not compressed while it is written")
        if "b" in mode or "w" not in mode:
            return super().open(path, mode, block_size, cache_options, **options)
        text = {name: options.pop(name) for name in ("encoding", "errors", "newline") if name in options}
        mode = mode.replace("t", "") + "b"
        return EncryptingText(super().open(path, mode, block_size, cache_options, **options), **text)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> EncryptingFile | DecryptingFile | DecryptingStream:
        if mode not in ("rb", "wb"):
            raise NotImplementedError("an encrypted file is read, or written from its beginning")
        file = self._below.open(path, mode, block_size=block_size, **options)
        try:
            context = self._context(self._place(path)) if callable(self._context) else self._context
            if mode == "wb":
                return self._encryption.open_encrypting(file, context, close_file=True)
            return self._encryption.open_decrypting(file, context, close_file=True)
        except BaseException:
            file.close()
            raise

    def info(self, path: Any, **options: Any) -> dict[str, Any]:
        """What there is about a path; `size` is the content's, as the header and the length of the file say."""
        return self._described(self._below.info(self._strip_protocol(path), **options))

    def ls(self, path: Any, detail: bool = True, **options: Any) -> list[Any]:
        """What is in a folder."""
        found = self._below.ls(self._strip_protocol(path), detail=True, **options)
        return [self._listed(entry) if detail else entry["name"] for entry in found]

    def _listed(self, entry: dict[str, Any]) -> dict[str, Any]:
        """One of a folder. A file that is no message, or has no end, must not hide the others: it has no size, and
        `refusal` says why."""
        try:
            return self._described(entry)
        except StrongroomError as refusal:
            return {**entry, "size": None, "encrypted_size": entry["size"], "refusal": refusal.reason}

    def _place(self, path: str) -> str:
        """The path as the file system below writes it, however a file was named: one file has one context."""
        below: str = self._below._strip_protocol(self._strip_protocol(path))  # noqa: SLF001  # between file systems
        return below

    def _described(self, entry: dict[str, Any]) -> dict[str, Any]:
        if entry["type"] != "file":
            return entry
        with self._below.open(entry["name"], "rb") as file:
            return {**entry, "size": inspect(file).size, "encrypted_size": entry["size"]}

    # What does not touch a content goes to the file system below.

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        text = stringify_path(path).removeprefix("strongroom://")
        return text.rstrip("/") or text[:1]

    def mkdir(self, path: str, create_parents: bool = True, **options: Any) -> None:
        """Makes a folder."""
        self._below.mkdir(path, create_parents=create_parents, **options)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Makes a folder, and those above it."""
        self._below.makedirs(path, exist_ok=exist_ok)

    def rmdir(self, path: str) -> None:
        """Removes an empty folder."""
        self._below.rmdir(path)

    def rm_file(self, path: str) -> None:
        """Removes a file."""
        self._below.rm_file(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Removes files, and folders with what is in them."""
        self._below.rm(self._strip_protocol(path), recursive=recursive, maxdepth=maxdepth)

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        """Copies a file as it is; with a context that depends on the path, by decrypting it."""
        if not callable(self._context):
            self._below.cp_file(path1, path2, **options)
            return
        with self.open(path1, "rb") as source, self.open(path2, "wb") as copy:
            while piece := source.read(1 << 20):
                copy.write(piece)

    def created(self, path: str) -> Any:
        """When a file was made."""
        return self._below.created(path)

    def modified(self, path: str) -> Any:
        """When a file was changed last."""
        return self._below.modified(path)
