"""Where the log is stored: whether its files are still the ones that were opened, and how much room is left.

Looked at before every write: a write that does not fit could tear, and one to a file that was deleted or replaced would
be lost with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Engine

from services.runtime.errors import Reason, StrongroomError


class Level(StrEnum):
    """How much room is left."""

    OK = "OK"
    LOW = "LOW"
    FULL = "FULL"


@dataclass(frozen=True, slots=True)
class Limits:
    """Free bytes below which there is a warning, and below which nothing is written any more."""

    warn_bytes: int
    refuse_bytes: int


def free_bytes(directory: Path) -> int:
    """Room that is left in the file system of a directory."""
    system = os.statvfs(directory)
    return system.f_bavail * system.f_frsize


class Storage:
    """The files of an SQLite database. A PostgreSQL server watches its own: nothing is checked then.

    `database` is the path of the file, which exists.
    """

    def __init__(self, database: Path | None, limits: Limits, free: Callable[[Path], int] = free_bytes) -> None:
        self._limits = limits
        self._free = free
        self._database = database
        self._files = [database] if database else []
        self._identities = [_identity(path) for path in self._files]

    @classmethod
    def of(cls, engine: Engine, limits: Limits) -> Storage:
        """The storage of a database that is open, and stays so."""
        path = engine.url.database if engine.dialect.name == "sqlite" else None
        return cls(Path(path).resolve() if path else None, limits)

    def free(self) -> int | None:
        """Free bytes, where that can be known."""
        return self._free(self._database.parent) if self._database else None

    def level(self) -> Level:
        """How much room is left."""
        free = self.free()
        if free is None or free >= self._limits.warn_bytes:
            return Level.OK
        return Level.LOW if free >= self._limits.refuse_bytes else Level.FULL

    def check(self) -> None:
        """Raises AUDIT_STORAGE_FAILED when a file is not the one that was opened, AUDIT_STORAGE_FULL without room."""
        for path, identity in zip(self._files, self._identities, strict=True):
            found = _identity(path)
            if found != identity:
                what = "was deleted" if found is None else "is another file than the one that was opened"
                raise StrongroomError(
                    Reason.AUDIT_STORAGE_FAILED, f"the audit log cannot be written: {path.name} {what}", peer="audit"
                )
        free = self.free()
        if free is not None and free < self._limits.refuse_bytes:
            raise StrongroomError(
                Reason.AUDIT_STORAGE_FULL,
                f"the audit log cannot be written: {free} bytes are free, {self._limits.refuse_bytes} are kept",
                peer="audit",
            )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
