"""Databases whose rows are sealed, as keystore's are, and what it destroyed."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import Engine

from services.keystore.store.destroyed import VersionId
from services.runtime.errors import Reason
from services.runtime.sensitive import SensitiveBytes
from services.runtime.storage import row_seals
from services.runtime.storage.row_seals import RowSeals


def seals_of(key: bytes = bytes(range(32))) -> RowSeals:
    """Keystore's seals under a key."""
    seals = RowSeals(Reason.ACCESS_RECORD_REFUSED)
    seals.open(SensitiveBytes(key))
    return seals


def sealed(engine: Engine, key: bytes = bytes(range(32))) -> Engine:
    """The same database; what is read and written through it is sealed, under a key of the test's."""
    return row_seals.sealed(engine, seals_of(key))


class DestroyedHere:
    """Remembers in the test what audit does in a mesh."""

    def __init__(self) -> None:
        self.noted: set[VersionId] = set()

    def note(self, versions: Iterable[VersionId]) -> None:
        self.noted.update(versions)

    def among(self, versions: Iterable[VersionId]) -> Collection[VersionId]:
        return self.noted.intersection(versions)
