"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from strongroom.errors import StrongroomError


def check_destination(destination: Path, *, overwrite: bool, asked: bool = True) -> None:
    """Raises FILE_EXISTS or FILE_NOT_REGULAR where `replacing` would refuse in the end, before any work is
    done.
    """
    try:
        mode = destination.stat().st_mode
    except FileNotFoundError:
        # A link that leads nowhere would have the file made wherever somebody else has pointed it.
        if destination.is_symlink() and not (overwrite and asked):
            raise _exists(destination) from None
        return
    if not stat.S_ISREG(mode):
        raise StrongroomError("FILE_NOT_REGULAR", f"{destination} is not a regular file", code="FAILED_PRECONDITION")
    if not overwrite:
        raise _exists(destination)


@contextmanager
def replacing(destination: Path, *, overwrite: bool, asked: bool = True) -> Iterator[FileIO]:
    """A new file, mode 0600, that becomes `destination` when the block ends without an error, and is removed
    else.

    It is on disk by then. Until then it lies beside the destination under a name that begins with a dot. A
    symbolic link is followed with `overwrite`, and counts as present without; one that leads nowhere is followed where
    somebody `asked` for the destination to be overwritten, and nowhere else. Raises FILE_EXISTS, also where the
    destination appears meanwhile, unless `overwrite`; FILE_NOT_REGULAR; OSError.
    """
    # Most programs that load the client write no file.
    import tempfile

    check_destination(destination, overwrite=overwrite, asked=asked)
    target = destination.resolve()
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    temporary = Path(name)
    try:
        with FileIO(descriptor, "r+") as file:
            yield file
            os.fsync(file.fileno())
        if overwrite:
            temporary.replace(target)
        else:
            _put_in_free_place(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(target.parent)


def write_own(destination: Path, content: bytes) -> None:
    """Writes a file that a program keeps for itself, and replaces the one of before, without anybody asking for that
    each time. Raises FILE_EXISTS for a link that leads nowhere; FILE_NOT_REGULAR; OSError."""
    with replacing(destination, overwrite=True, asked=False) as file:
        file.write(content)


def _put_in_free_place(temporary: Path, target: Path) -> None:
    try:
        # Unlike a rename, a hard link never takes the place of a file that appeared meanwhile.
        target.hardlink_to(temporary)
    except FileExistsError:
        raise _exists(target) from None
    except OSError:  # a file system without hard links
        if target.exists():
            raise _exists(target) from None
        temporary.replace(target)


def _exists(destination: Path) -> StrongroomError:
    what = "exists already" if destination.exists() else "is a link that leads nowhere"
    return StrongroomError("FILE_EXISTS", f"{destination} {what}", code="ALREADY_EXISTS")


def _sync_directory(directory: Path) -> None:
    with suppress(OSError):  # not every file system can
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
