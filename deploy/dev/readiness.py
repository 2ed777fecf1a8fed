"""Whether a service serves: gRPC health, and with several workers each of them at its port."""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc
import psutil
from grpc_health.v1 import health_pb2

from deploy.dev.channels import Trust, open_channel

# The names whose health says that a service's components work; the empty name only says that a process runs.
HEALTH_NAMES = {
    "keystore": "strongroom.keystore.v1.KeyService",
    "crypto": "strongroom.crypto.v1.CryptoService",
    "secrets": "strongroom.secrets.v1.SecretService",
    "audit": "strongroom.audit.v1.AuditService",
}
_PAUSE_SECONDS = 0.05
# One connection reaches one worker, the kernel says which; so many connections a worker miss one rarely.
_CONNECTIONS_A_WORKER = 4


class Readiness:
    """Waits for one service; gives up when `seconds` have passed or `still_hopeful` says no."""

    def __init__(
        self, service: str, address: str, trust: Trust, *, seconds: float, still_hopeful: Callable[[], bool]
    ) -> None:
        self._service = service
        self._address = address
        self._trust = trust
        self._still_hopeful = still_hopeful
        self._deadline = time.monotonic() + seconds

    def missing(self, workers: int, pid: int | None) -> str | None:
        """None once `workers` processes from `pid` down listen and are SERVING, or what was missing."""
        if workers > 1 and pid is not None and not self._wait(lambda: self._listening(pid) >= workers):
            return f"did not have {workers} workers listening"
        connections = 1 if workers == 1 else workers * _CONNECTIONS_A_WORKER
        for _ in range(connections):
            said = self._missing_on_one_connection()
            if said is not None:
                return f"was not SERVING ({said})"
        return None

    def _missing_on_one_connection(self) -> str | None:
        said = ""
        with open_channel(self._address, self._trust) as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            request = health_pb2.HealthCheckRequest(service=HEALTH_NAMES[self._service])

            def serving() -> bool:
                nonlocal said
                try:
                    health = check(request, timeout=1.0)
                except grpc.RpcError as error:
                    said = _status(error)
                    return False
                said = health_pb2.HealthCheckResponse.ServingStatus.Name(health.status)
                return bool(health.status == health_pb2.HealthCheckResponse.SERVING)

            return None if self._wait(serving) else said

    def _wait(self, condition: Callable[[], bool]) -> bool:
        while not condition():
            if time.monotonic() > self._deadline or not self._still_hopeful():
                return False
            time.sleep(_PAUSE_SECONDS)
        return True

    def _listening(self, pid: int) -> int:
        port = int(self._address.rpartition(":")[2])
        try:
            leader = psutil.Process(pid)
            family = [leader, *leader.children(recursive=True)]
        except psutil.NoSuchProcess:
            return 0
        return sum(_listens(process, port) for process in family)


def _listens(process: psutil.Process, port: int) -> bool:
    try:
        connections = process.net_connections(kind="tcp")
    except psutil.NoSuchProcess:
        return False
    return any(item.status == psutil.CONN_LISTEN and item.laddr.port == port for item in connections)


def _status(error: grpc.RpcError) -> str:
    code, details = getattr(error, "code", None), getattr(error, "details", None)
    return f"{code().name}: {details()}" if code and details else str(error)
