"""Versions that were destroyed for good, as audit knows them: whatever keystore's database says of one later, out of a
backup or a write-ahead log, its material is not used again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from services.keystore.store.model import Version
from services.runtime.mesh.channels import AUDIT, MeshChannel
from strongroom.audit.v1 import record_key_service_pb2 as pb
from strongroom.audit.v1.record_key_service_pb2_grpc import RecordKeyServiceStub

_TIMEOUT_SECONDS = 2.0
_AT_ONCE = 1_000
_NUMBER_BYTES = 4

VersionId = tuple[bytes, int]
"""A key's uid, and the number of its version."""


class Destroyed(Protocol):
    """Where they are remembered. Methods raise AUDIT_UNREACHABLE, DATABASE_UNAVAILABLE."""

    def note(self, versions: Iterable[VersionId]) -> None:
        """Remembers what is about to be destroyed. To be called when nothing but the commit can fail any more: from
        then on it counts as destroyed."""

    def among(self, versions: Iterable[VersionId]) -> Collection[VersionId]:
        """Those of them that were destroyed."""


class DestroyedInAudit:
    """Destroyed versions as audit keeps them: in another database than the one whose rows could be put back."""

    def __init__(self, audit: MeshChannel) -> None:
        self._note = AUDIT.method(audit, RecordKeyServiceStub, "NoteDestroyed", _TIMEOUT_SECONDS)
        self._find = AUDIT.method(audit, RecordKeyServiceStub, "FindDestroyed", _TIMEOUT_SECONDS)

    def note(self, versions: Iterable[VersionId]) -> None:
        """Tells audit of versions before what destroys them commits. Raises AUDIT_UNREACHABLE, or what audit says."""
        for some in _groups(versions):
            self._note(pb.NoteDestroyedRequest(ids=some))

    def among(self, versions: Iterable[VersionId]) -> Collection[VersionId]:
        """Those of the versions that audit was told of as destroyed."""
        found: set[VersionId] = set()
        for some in _groups(versions):
            answer: pb.FindDestroyedResponse = self._find(pb.FindDestroyedRequest(ids=some))
            found.update(map(_read, answer.ids))
        return found


def ids_of(versions: Iterable[Version]) -> list[VersionId]:
    """By what versions are known."""
    return [(version.uid, version.version) for version in versions]


def _groups(versions: Iterable[VersionId]) -> Iterator[list[bytes]]:
    written = list(map(_written, versions))
    return (written[first : first + _AT_ONCE] for first in range(0, len(written), _AT_ONCE))


def _written(version: VersionId) -> bytes:
    return version[0] + version[1].to_bytes(_NUMBER_BYTES, "big")


def _read(written: bytes) -> VersionId:
    return written[:-_NUMBER_BYTES], int.from_bytes(written[-_NUMBER_BYTES:], "big")
