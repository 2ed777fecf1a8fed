"""How the services are."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime

from strongroom.calls.base import Calls
from strongroom.convert import enum_text, moment
from strongroom.credentials import TokenSource
from strongroom.errors import StrongroomError
from strongroom.profiles import SERVICES
from strongroom.runtime.v1 import status_pb2 as pb
from strongroom.runtime.v1.status_pb2_grpc import StatusServiceStub

OK = "OK"
DOWN = "DOWN"
_PREFIX = "COMPONENT_STATE_"


@dataclass(frozen=True, slots=True)
class Component:
    """Something that a service depends on: `state` is OK, DEGRADED or DOWN, `reason` and `detail` say why,
    `since` when.
    """

    name: str
    state: str
    reason: str
    detail: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service: `state` is the worst of its components'; `uptime_seconds` is by a clock that nobody sets.

    What is empty was not told: whoever is not of the mesh's own account sees states and reasons, and whoever has no
    credential sees the service's state alone. A service that does not answer is DOWN, with `reason` and `detail` of the
    failed call; they are empty otherwise.
    """

    service: str
    state: str
    version: str = ""
    instance: str = ""
    start_time: datetime | None = None
    uptime_seconds: float | None = None
    components: tuple[Component, ...] = ()
    attributes: Mapping[str, str] | None = None
    reason: str = ""
    detail: str = ""


class StatusCalls(Calls):
    """Methods that ask how the mesh is."""

    def status(self, *, timeout: float = 2.0) -> tuple[ServiceStatus, ...]:
        """Every service's own view of how it is, all asked at once. Raises nothing: a service may be what is
        broken.
        """
        tokens = self._tokens_at_hand(timeout)
        with ThreadPoolExecutor(len(SERVICES)) as pool:
            # In a copy of this thread's context each, so that one trace holds them all.
            asked = [pool.submit(copy_context().run, self._ask, name, timeout, tokens) for name in SERVICES]
            return tuple(answer.result() for answer in asked)

    def service_status(self, service: str, *, timeout: float = 2.0) -> ServiceStatus:
        """The view of one service, as `status` has it."""
        return self._ask(service, timeout, self._tokens_at_hand(timeout))

    def _tokens_at_hand(self, timeout: float) -> TokenSource | None:
        """The client's tokens; None where none can be had in time: what gives them may be what is broken."""
        tokens = self._transport.tokens
        if tokens is None:
            return None
        had = threading.Event()

        def ask() -> None:
            with suppress(StrongroomError):
                tokens.current()
                had.set()

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(timeout)
        return tokens if had.is_set() else None

    def _ask(self, service: str, timeout: float, tokens: TokenSource | None) -> ServiceStatus:
        try:
            endpoint = self._transport.endpoint_as(service, StatusServiceStub, tokens)
            answer = endpoint.call(endpoint.stub.GetStatus, pb.GetStatusRequest(), timeout).response
        except StrongroomError as error:
            return ServiceStatus(service, DOWN, reason=error.reason, detail=error.message)
        return ServiceStatus(
            service=answer.service,
            state=enum_text(pb.ComponentState, _PREFIX, answer.state),
            version=answer.version,
            instance=answer.instance,
            start_time=moment(answer.start_time),
            uptime_seconds=answer.uptime.ToNanoseconds() / 1e9 if answer.HasField("uptime") else None,
            components=tuple(
                Component(
                    name=component.name,
                    state=enum_text(pb.ComponentState, _PREFIX, component.state),
                    reason=component.reason,
                    detail=component.detail,
                    since=moment(component.since),
                )
                for component in answer.components
            ),
            attributes=dict(answer.attributes),
        )
