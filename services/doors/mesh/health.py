"""Whether the mesh serves, as gRPC health says: asked at most once a second, whoever wants to know."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from services.runtime.errors import StrongroomError
from services.runtime.mesh.channels import MeshChannel, Peer

_FRESH_SECONDS = 1.0
_ANSWER_SECONDS = 2.0


class MeshHealth:
    """The services that a door needs."""

    def __init__(
        self, services: dict[str, tuple[Peer, MeshChannel]], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`services` are channels by the full name of a gRPC service whose health is asked."""
        self._checks = {
            name: peer.method(channel, HealthStub, "Check", _ANSWER_SECONDS)
            for name, (peer, channel) in services.items()
        }
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._serves = False

    def serves(self) -> bool:
        """Whether all of them do."""
        with self._lock:
            if self._monotonic() - self._asked_at >= _FRESH_SECONDS:
                self._serves = all(self._one_serves(name) for name in self._checks)
                self._asked_at = self._monotonic()
            return self._serves

    def _one_serves(self, name: str) -> bool:
        try:
            answer = self._checks[name](HealthCheckRequest(service=name))
        except StrongroomError:
            return False
        return bool(answer.status == HealthCheckResponse.SERVING)
