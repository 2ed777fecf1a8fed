"""`RecordKeyService`: keeps, for each other service, the key that it seals the rows of its own database with."""

from __future__ import annotations

import threading

from services.audit.logs import Logs
from services.audit.service_keys import ServiceKeys
from services.runtime.call import Call
from services.runtime.errors import invalid
from services.runtime.sensitive import SensitiveBytes
from strongroom.audit.v1 import record_key_service_pb2 as pb

_KEY_BYTES = 32


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

    def _found(self, purpose: str) -> SensitiveBytes | None:
        for keys in self._places():
            kept = keys.newest(purpose)
            if kept is not None:
                return keys.open(kept.key_id)
        return None

    def _places(self) -> list[ServiceKeys]:
        return [log.service_keys for log in self._logs]


def _purpose(call: Call) -> str:
    return f"record key of {call.principal.name}"
