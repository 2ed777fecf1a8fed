"""Files read up to a size: a file that somebody else made must not fill the memory, nor hang who opens it."""

from __future__ import annotations

import os
import stat
from io import BufferedReader, FileIO
from pathlib import Path

from strongroom.errors import StrongroomError

TEXT_BYTES = 1 << 20
"""What a text may have that a person wrote or keeps: a policy, certificates, keys, a profile."""


def read_file(path: Path, limit: int, *, regular: bool = False) -> bytes:
    """The bytes of a file of at most `limit` bytes; a pipe is read to its end, unless it must be `regular`.

    Raises FILE_TOO_LARGE, FILE_NOT_REGULAR, OSError.
    """
    # Opening a pipe that nobody writes to would wait for ever.
    flags = os.O_RDONLY | os.O_CLOEXEC | (os.O_NONBLOCK if regular else 0)
    descriptor = os.open(path, flags)
    try:
        opened = FileIO(descriptor)
    except OSError as error:
        # A folder: it is open already, and its number says nothing to whoever named it.
        os.close(descriptor)
        raise OSError(error.errno, error.strerror, str(path)) from None
    with BufferedReader(opened) as file:
        if regular and not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StrongroomError("FILE_NOT_REGULAR", f"{path} is not a regular file", code="FAILED_PRECONDITION")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise StrongroomError("FILE_TOO_LARGE", f"{path} is larger than {limit} bytes", code="FAILED_PRECONDITION")
    return content


def read_text(path: Path, limit: int = TEXT_BYTES) -> str:
    """The text of a UTF-8 file of at most `limit` bytes. Raises FILE_TOO_LARGE, FILE_NOT_TEXT, OSError."""
    try:
        return read_file(path, limit).decode()
    except UnicodeDecodeError:
        raise StrongroomError("FILE_NOT_TEXT", f"{path} is not text in UTF-8", code="FAILED_PRECONDITION") from None
