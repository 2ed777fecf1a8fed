"""How the services are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from strongroom.convert import enum_text, moment, span
from strongroom.errors import StrongroomError
from strongroom.runtime.v1 import status_pb2 as pb

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


def status_of(answer: pb.GetStatusResponse) -> ServiceStatus:
    """A service's status from the contract's message."""
    return ServiceStatus(
        service=answer.service,
        state=enum_text(pb.ComponentState, _PREFIX, answer.state),
        version=answer.version,
        instance=answer.instance,
        start_time=moment(answer.start_time),
        uptime_seconds=span(answer.uptime).total_seconds() if answer.HasField("uptime") else None,
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


def unreachable(service: str, error: StrongroomError) -> ServiceStatus:
    """The status of a service that did not answer."""
    return ServiceStatus(service, DOWN, reason=error.reason, detail=error.message)
