"""An encrypting file system over any other that fsspec knows (`pip install strongroom[fsspec]`).

    from fsspec.implementations.local import LocalFileSystem
    from strongroom.encryption.adapters.fsspec_files import EncryptedFileSystem

    files = EncryptedFileSystem(LocalFileSystem(), encryption)
    pandas.read_parquet("/data/orders", filesystem=files)

Each file is one encrypted message; names and sizes are not hidden. Reads are anywhere in a file, and decrypt no more
than the chunks that they are from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fsspec.spec import AbstractFileSystem

from strongroom.encryption.client import EncryptionClient
from strongroom.encryption.inspection import inspect
from strongroom.encryption.streams.files import DecryptingFile, DecryptingStream, EncryptingFile

Contexts = Mapping[str, str] | Callable[[str], Mapping[str, str]] | None
"""The encryption context of every file, or what answers it for a path: so that files cannot change places."""


class EncryptedFileSystem(AbstractFileSystem):
    """Encrypts what is written into another file system, and decrypts what is read from it.

    A file that an exception left unfinished is refused when it is read. Files are written from their beginning, and not
    appended to.

    Args:
        fs: where the encrypted files are.
        encryption: encrypts and decrypts; give it a cache where there are many files.
        context: the encryption context, or a function of the path.
    """

    protocol = "strongroom"
    # Two with equal arguments need not share an encryption client that was closed.
    cachable = False

    def __init__(self, fs: AbstractFileSystem, encryption: EncryptionClient, context: Contexts = None) -> None:
        super().__init__()
        self._below = fs
        self._encryption = encryption
        self._context = context

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
            context = self._context(self._strip_protocol(path)) if callable(self._context) else self._context
            if mode == "wb":
                return self._encryption.open_encrypting(file, context, close_file=True)
            return self._encryption.open_decrypting(file, context, close_file=True)
        except BaseException:
            file.close()
            raise

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """What there is about a path; `size` is the content's, as the header and the length of the file say."""
        return self._described(self._below.info(path, **options))

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """What is in a folder."""
        found = self._below.ls(path, detail=True, **options)
        return [self._described(entry) if detail else entry["name"] for entry in found]

    def _described(self, entry: dict[str, Any]) -> dict[str, Any]:
        if entry["type"] != "file":
            return entry
        with self._below.open(entry["name"], "rb") as file:
            return {**entry, "size": inspect(file).size, "encrypted_size": entry["size"]}

    # What does not touch a content goes to the file system below.

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("strongroom://")

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
