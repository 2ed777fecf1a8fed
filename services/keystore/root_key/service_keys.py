"""Keys that other services keep for themselves, wrapped under the root key: audit's sealing roots."""

from __future__ import annotations

from services.runtime.mesh.channels import AUDIT, MeshChannel
from strongroom.audit.v1.sealing_service_pb2 import RewrapServiceKeysRequest, RewrapServiceKeysResponse
from strongroom.audit.v1.sealing_service_pb2_grpc import SealingServiceStub

_TIMEOUT_SECONDS = 10.0


class ServiceKeys:
    """Audit's part of a rotation of the root key."""

    def __init__(self, audit: MeshChannel) -> None:
        self._rewrap = AUDIT.method(audit, SealingServiceStub, "RewrapServiceKeys", _TIMEOUT_SECONDS)

    def count_below(self, root_version: int) -> int:
        """How many keys are under root versions below this one. Raises AUDIT_UNREACHABLE, DATABASE_UNAVAILABLE."""
        return int(self._call(root_version, 0).remaining_count)

    def rewrap_below(self, root_version: int, limit: int) -> int:
        """Has some of them wrapped anew, and answers how many. Raises KEY_MATERIAL_REFUSED, AUDIT_UNREACHABLE,
        DATABASE_UNAVAILABLE, and what crypto raises."""
        return int(self._call(root_version, limit).done_count)

    def _call(self, root_version: int, limit: int) -> RewrapServiceKeysResponse:
        request = RewrapServiceKeysRequest(below_root_version=root_version, limit=limit)
        answer: RewrapServiceKeysResponse = self._rewrap(request)
        return answer
