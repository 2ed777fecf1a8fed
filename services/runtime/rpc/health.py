"""gRPC health that costs no thread: checks are answered at once, watchers are told without being waited for."""

from __future__ import annotations

import threading
from typing import Any

import grpc
from grpc_health.v1 import health_pb2 as pb

from services.runtime.rpc.arriving import Outlet

State = Any
"""One of gRPC's serving states, of which its stubs have no type."""

SERVING: State = pb.HealthCheckResponse.SERVING
NOT_SERVING: State = pb.HealthCheckResponse.NOT_SERVING


class Health:
    """What serves and what does not, by the names of gRPC services; the empty name is the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[str, State] = {"": SERVING}
        self._watchers: dict[str, set[Outlet]] = {}
        self._ending = False

    def set(self, service: str, state: State) -> None:
        """Tells watchers when that is new. Once the process ends nothing is."""
        with self._lock:
            if not self._ending:
                self._set(service, state)

    def end(self) -> None:
        """Turns every answer to NOT_SERVING for good."""
        with self._lock:
            self._ending = True
            for service in self._states:
                self._set(service, NOT_SERVING)

    def check(self, request: pb.HealthCheckRequest, context: grpc.ServicerContext) -> pb.HealthCheckResponse:
        """`Check`: NOT_FOUND for a service that is not known."""
        state = self._states.get(request.service)
        if state is None:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            return pb.HealthCheckResponse()
        return pb.HealthCheckResponse(status=state)

    def watch(self, request: pb.HealthCheckRequest, context: grpc.ServicerContext, outlet: Outlet) -> None:
        """`Watch`: the state now and each one that differs, until the caller leaves."""
        service = request.service
        with self._lock:
            self._watchers.setdefault(service, set()).add(outlet)
            outlet.offer(
                pb.HealthCheckResponse(status=self._states.get(service, pb.HealthCheckResponse.SERVICE_UNKNOWN))
            )
        if not context.add_callback(lambda: self._forget(service, outlet)):
            self._forget(service, outlet)

    def _set(self, service: str, state: State) -> None:
        if self._states.get(service) == state:
            return
        self._states[service] = state
        for outlet in self._watchers.get(service, ()):
            outlet.offer(pb.HealthCheckResponse(status=state))

    def _forget(self, service: str, outlet: Outlet) -> None:
        with self._lock:
            watchers = self._watchers.get(service, set())
            watchers.discard(outlet)
            if not watchers:
                self._watchers.pop(service, None)
