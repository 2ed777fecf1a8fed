"""`RecordKeyService`: keeps, for each other service, the key that it seals the rows of its own database with, and
what it destroyed for good."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from services.audit.keys.service_keys import ServiceKeys
from services.audit.logs.logs import Logs
from services.runtime.call import Call
from services.runtime.errors import invalid, required, too_large
from services.runtime.sensitive import SensitiveBytes
from strongroom.audit.v1 import record_key_service_pb2 as pb

_KEY_BYTES = 32
_MAX_IDS = 1_000
_MAX_ID_BYTES = 32


class RecordKeyService:
    """Handlers of the internal service."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._lock = threading.Lock()

    def GetRecordKey(self, request: pb.GetRecordKeyRequest, call: Call) -> pb.GetRecordKeyResponse:
        """The caller's own, wherever it is kept."""
        del request
        key = self._found(_purpose(call))
        return pb.GetRecordKeyResponse(key=key.reveal() if key is not None else b"")

    def InstallRecordKey(self, request: pb.InstallRecordKeyRequest, call: Call) -> pb.InstallRecordKeyResponse:
        """The caller's first."""
        if len(request.key) != _KEY_BYTES:
            raise invalid("key", f"must have {_KEY_BYTES} bytes")
        # This process alone writes the log's database.
        with self._lock:
            key = self._found(_purpose(call))
            if key is None:
                key = SensitiveBytes(request.key)
                self._places()[0].make(_purpose(call), key)
        return pb.InstallRecordKeyResponse(key=key.reveal())

    def NoteDestroyed(self, request: pb.NoteDestroyedRequest, call: Call) -> pb.NoteDestroyedResponse:
        """What the caller is about to destroy."""
        first, ids = next(iter(self._logs)), _ids(request.ids)
        with self._lock:
            first.destroyed.note(call.principal.name, ids)
        return pb.NoteDestroyedResponse()

    def FindDestroyed(self, request: pb.FindDestroyedRequest, call: Call) -> pb.FindDestroyedResponse:
        """Those that the caller destroyed."""
        ids = _ids(request.ids)
        found = {one for log in self._logs for one in log.destroyed.among(call.principal.name, ids)}
        return pb.FindDestroyedResponse(ids=sorted(found))

    def _found(self, purpose: str) -> SensitiveBytes | None:
        for keys in self._places():
            kept = keys.newest(purpose)
            if kept is not None:
                return keys.open(kept.key_id)
        return None

    def _places(self) -> list[ServiceKeys]:
        return [log.service_keys for log in self._logs]


def _ids(ids: Sequence[bytes]) -> list[bytes]:
    if not ids:
        raise required("ids")
    if len(ids) > _MAX_IDS:
        raise too_large("ids", _MAX_IDS, "entries")
    if not all(0 < len(one) <= _MAX_ID_BYTES for one in ids):
        raise invalid("ids", f"must each have 1 to {_MAX_ID_BYTES} bytes")
    return list(dict.fromkeys(ids))


def _purpose(call: Call) -> str:
    return f"record key of {call.principal.name}"
