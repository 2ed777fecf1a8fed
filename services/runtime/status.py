"""What works and what does not: the components a service depends on, its health, and `GetStatus`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import HealthServicer

from services.runtime import clock
from services.runtime.errors import StrongroomError
from strongroom.runtime.v1 import status_pb2 as pb

log = logging.getLogger(__name__)

_CHECK_SECONDS = 0.25

# Raises a StrongroomError when the component does not work.
Check = Callable[[], None]


@dataclass
class _Component:
    name: str
    check: Check
    vital: bool = True
    reason: str = ""
    detail: str = ""
    since_ns: int = 0

    @property
    def state(self) -> pb.ComponentState.ValueType:
        if not self.reason:
            return pb.COMPONENT_STATE_OK
        return pb.COMPONENT_STATE_DOWN if self.vital else pb.COMPONENT_STATE_DEGRADED


class Status:
    """Checks components all the time, so that health and `GetStatus` answer at once whatever hangs."""

    def __init__(self, service: str, instance: str) -> None:
        self._service = service
        self._instance = instance
        self._started_ns = time.time_ns()
        self._components: list[_Component] = []
        self._attributes: dict[str, str] = {}
        self._health_names: list[str] = []
        self._draining = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="status", daemon=True)
        self.health = HealthServicer(experimental_non_blocking=True)

    def component(self, name: str, check: Check, *, vital: bool = True) -> None:
        """Adds something that the service cannot work without, or where it is not `vital`, not as well."""
        self._components.append(_Component(name, check, vital, since_ns=time.time_ns()))

    def attribute(self, name: str, value: str) -> None:
        """Adds a fact worth showing, such as the key provider in use."""
        self._attributes[name] = value

    def serves(self, grpc_service: str) -> None:
        """Reports the health of a gRPC service: SERVING while every vital component works. The empty name stands for
        the process, which is SERVING until it drains."""
        self._health_names.append(grpc_service)
        self.health.set(grpc_service, health_pb2.HealthCheckResponse.NOT_SERVING)

    def start(self) -> None:
        """Begins to check."""
        self.health.set("", health_pb2.HealthCheckResponse.SERVING)
        self._thread.start()

    def drain(self) -> None:
        """Turns every health answer to NOT_SERVING for good."""
        self._draining = True
        self._stopping.set()
        self.health.enter_graceful_shutdown()

    def get(self) -> pb.GetStatusResponse:
        """The answer to `GetStatus`."""
        states = [component.state for component in self._components]
        return pb.GetStatusResponse(
            service=self._service,
            instance=self._instance,
            version=version("strongroom"),
            start_time=clock.timestamp(self._started_ns),
            state=pb.COMPONENT_STATE_DOWN if self._draining else max(states, default=pb.COMPONENT_STATE_OK),
            components=[
                pb.Component(
                    name=component.name,
                    state=component.state,
                    reason=component.reason,
                    detail=component.detail,
                    since=clock.timestamp(component.since_ns),
                )
                for component in self._components
            ],
            attributes=self._attributes,
        )

    def _watch(self) -> None:
        while not self._stopping.is_set():
            for component in self._components:
                self._check(component)
            down = any(component.state == pb.COMPONENT_STATE_DOWN for component in self._components)
            answer = health_pb2.HealthCheckResponse.NOT_SERVING if down else health_pb2.HealthCheckResponse.SERVING
            for name in self._health_names:
                self.health.set(name, answer)
            self._stopping.wait(_CHECK_SECONDS)

    def _check(self, component: _Component) -> None:
        reason, detail = "", ""
        try:
            component.check()
        except StrongroomError as error:
            reason, detail = error.reason, error.message
        except Exception as error:  # noqa: BLE001  # a check that breaks is a component that does not work
            reason, detail = "INTERNAL", type(error).__name__
        if reason != component.reason:
            component.since_ns = time.time_ns()
            level = logging.WARNING if reason else logging.INFO
            log.log(level, "component changed", extra={"fields": {"component": component.name, "reason": reason}})
        component.reason, component.detail = reason, detail
