"""Files that are whole or absent."""

from __future__ import annotations

import os
from pathlib import Path


def write_file(path: Path, content: bytes | str, mode: int = 0o644) -> None:
    """Puts `content` at `path` with `mode`; a reader sees the old file or the new one, never a part."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever the umask says
            file.write(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def private_directory(path: Path) -> Path:
    """Makes `path` a directory that only this user may enter."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path
