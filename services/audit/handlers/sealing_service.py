"""`SealingService`: the keys that audit keeps wrapped under the root key, wrapped anew when that rotates."""

from __future__ import annotations

from services.audit.logs.logs import Logs
from services.runtime.call import Call
from services.runtime.errors import required, too_large
from strongroom.audit.v1.sealing_service_pb2 import RewrapServiceKeysRequest, RewrapServiceKeysResponse

_MAX_KEYS = 1_000


class SealingService:
    """Handlers of the internal service."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs

    def RewrapServiceKeys(self, request: RewrapServiceKeysRequest, call: Call) -> RewrapServiceKeysResponse:
        """Some keys under older versions of the root key, under the newest."""
        del call
        if not request.below_root_version:
            raise required("below_root_version")
        if request.limit > _MAX_KEYS:
            raise too_large("limit", _MAX_KEYS, "keys")
        done = 0
        for log in self._logs:
            done += log.service_keys.rewrap(request.below_root_version, request.limit - done)
        remaining = sum(log.service_keys.count_below(request.below_root_version) for log in self._logs)
        return RewrapServiceKeysResponse(done_count=done, remaining_count=remaining)
