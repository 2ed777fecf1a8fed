"""The key that a service seals its rows with: made by the service, wrapped by crypto, kept in audit's database.

A writer to the service's own database can neither read it nor take it away. Where audit has none yet, no row was ever
sealed with one: the database is from before there were seals, and is sealed as it is, once. Of tables that came to be
sealed later audit keeps a mark, so that they too are taken as they are once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from sqlalchemy import Connection, Engine

from services.runtime.background import NEVER, Background
from services.runtime.errors import Reason
from services.runtime.mesh.channels import AUDIT, MeshChannel
from services.runtime.sensitive import SensitiveBytes
from services.runtime.storage.database import transaction
from services.runtime.storage.row_seals import RowSeals, sealed
from strongroom.audit.v1 import record_key_service_pb2 as pb
from strongroom.audit.v1.record_key_service_pb2_grpc import RecordKeyServiceStub

log = logging.getLogger(__name__)

KEY_BYTES = 32
OUTBOX_IS_SEALED = b"the outbox is sealed"
"""The mark of a service whose outbox has seals."""
_TIMEOUT_SECONDS = 3.0
# At first every row is sealed.
_LONGEST_SECONDS = 3_600.0
_RETRY_SECONDS = 0.25

SealAll = Callable[[Connection], int]
"""Seals every row of the database as it stands, under the seals of the connection; answers how many there were."""


class RecordKey(Protocol):
    """Where the key is kept. Methods raise what is worth trying again."""

    def get(self) -> SensitiveBytes | None:
        """The key, if there is one."""

    def install(self, key: SensitiveBytes) -> SensitiveBytes:
        """Keeps a first key; the one that is in force, which is another's where that was quicker."""

    def is_marked(self, mark: bytes) -> bool:
        """Whether a mark was made."""

    def mark(self, mark: bytes) -> None:
        """Makes a mark for good, of up to 32 bytes."""


class AuditRecordKey:
    """The record key in audit's database. Audit knows the service by its certificate."""

    def __init__(self, audit: MeshChannel) -> None:
        self._get = AUDIT.method(audit, RecordKeyServiceStub, "GetRecordKey", _TIMEOUT_SECONDS)
        self._install = AUDIT.method(audit, RecordKeyServiceStub, "InstallRecordKey", _TIMEOUT_SECONDS)
        self._find = AUDIT.method(audit, RecordKeyServiceStub, "FindDestroyed", _TIMEOUT_SECONDS)
        self._note = AUDIT.method(audit, RecordKeyServiceStub, "NoteDestroyed", _TIMEOUT_SECONDS)

    def get(self) -> SensitiveBytes | None:
        """The key, or None where audit has none for this service."""
        answer: pb.GetRecordKeyResponse = self._get(pb.GetRecordKeyRequest())
        return SensitiveBytes(answer.key) if answer.key else None

    def install(self, key: SensitiveBytes) -> SensitiveBytes:
        """Gives audit a new key; answers the one that it keeps, which is another process's where that was first."""
        request = pb.InstallRecordKeyRequest(key=key.reveal())
        answer: pb.InstallRecordKeyResponse = self._install(request)
        return SensitiveBytes(answer.key)

    def is_marked(self, mark: bytes) -> bool:
        """Whether audit has the mark among what this service told it was over."""
        answer: pb.FindDestroyedResponse = self._find(pb.FindDestroyedRequest(ids=[mark]))
        return mark in answer.ids

    def mark(self, mark: bytes) -> None:
        """Tells audit, which forgets none."""
        self._note(pb.NoteDestroyedRequest(ids=[mark]))


class RecordSealing:
    """Gets the key as soon as it can be had, whatever order services start in, and hands it to the seals."""

    def __init__(
        self,
        engine: Engine,
        key: RecordKey,
        seals: RowSeals,
        seal_all: Sequence[SealAll],
        later: Mapping[bytes, SealAll] = MappingProxyType({}),
    ) -> None:
        """`later` seals tables that had no seals at first, each with the mark that its rows have them now."""
        self._later = later
        self._engine = engine
        self._key = key
        self._seals = seals
        self._seal_all = seal_all
        self._opening = Background(
            "record-key",
            self._opened,
            "the key that seals database rows could not be fetched from audit yet",
            every=_RETRY_SECONDS,
            takes=_LONGEST_SECONDS,
        )

    def start(self) -> None:
        """Begins."""
        self._opening.start()

    def stop(self) -> None:
        """Ends."""
        self._opening.stop()

    def open(self) -> None:
        """One try. Raises AUDIT_UNREACHABLE, CRYPTO_UNREACHABLE, DATABASE_UNAVAILABLE and the like."""
        key = self._key.get() or self._first()
        for mark, seal_all in self._later.items():
            if not self._key.is_marked(mark):
                self._seal_rows(key, [seal_all])
                self._key.mark(mark)
        self._seals.open(key)

    def _first(self) -> SensitiveBytes:
        made = SensitiveBytes(os.urandom(KEY_BYTES))
        # Sealed before the key is known: a process that dies between leaves nothing that another would trust.
        self._seal_rows(made, self._seal_all)
        in_force = self._key.install(made)
        if in_force.reveal() != made.reveal():
            self._seal_rows(in_force, self._seal_all)
        return in_force

    def _seal_rows(self, key: SensitiveBytes, tables: Sequence[SealAll]) -> None:
        seals = RowSeals(Reason.RECORD_KEY_UNAVAILABLE)
        seals.open(key)
        with transaction(sealed(self._engine, seals), patient=True) as connection:
            count = sum(seal_all(connection) for seal_all in tables)
        if count:
            log.warning(
                "the database had no seals: its rows were sealed as they are", extra={"fields": {"rows": count}}
            )

    def _opened(self) -> float:
        self.open()
        return NEVER
