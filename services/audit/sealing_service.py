"""`SealingService`: the keys that audit keeps wrapped under the root key, wrapped anew when that rotates."""

from __future__ import annotations

from services.audit.sealing import Sealer
from services.audit.store import LogStore
from services.runtime.call import Call
from services.runtime.errors import required, too_large
from strongroom.audit.v1.sealing_service_pb2 import RewrapServiceKeysRequest, RewrapServiceKeysResponse

_MAX_KEYS = 1_000


class SealingService:
    """Handlers of the internal service."""

    def __init__(self, sealer: Sealer, store: LogStore) -> None:
        self._sealer = sealer
        self._store = store

    def RewrapServiceKeys(self, request: RewrapServiceKeysRequest, call: Call) -> RewrapServiceKeysResponse:
        """Some keys under older versions of the root key, under the newest."""
        del call
        if not request.below_root_version:
            raise required("below_root_version")
        if request.limit > _MAX_KEYS:
            raise too_large("limit", _MAX_KEYS, "keys")
        done = self._sealer.rewrap(request.below_root_version, request.limit)
        remaining = self._store.count_roots_below(request.below_root_version)
        return RewrapServiceKeysResponse(done_count=done, remaining_count=remaining)
