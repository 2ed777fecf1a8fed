"""What works and what does not: the components a service depends on, its health, and `GetStatus`."""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

from google.protobuf.timestamp_pb2 import Timestamp

from services.runtime.background import Background
from services.runtime.clock import Clock, from_microseconds, system_clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.rpc.health import NOT_SERVING, SERVING, Health
from strongroom.runtime.v1 import status_pb2 as pb

log = logging.getLogger(__name__)

_CHECK_SECONDS = 0.25
_OVERDUE_SECONDS = 2.0
"""A check that has not returned for so long is of something that hangs."""

# Raises a StrongroomError when the component does not work.
Check = Callable[[], None]


class View(enum.Enum):
    """How much `GetStatus` tells."""

    SERVES = enum.auto()
    """Whether the service serves."""
    COMPONENTS = enum.auto()
    """Which components work, and the stable reasons of those that do not, as well."""
    WHOLE = enum.auto()
    """Everything: which process it is, its version, what was seen."""


@dataclass
class _Component:
    name: str
    check: Check
    vital: bool = True
    reason: str = ""
    detail: str = ""
    since: float = 0.0
    """On the monotonic clock: how long that is ago does not change when somebody sets the time of day."""
    checked: bool = False
    began: float | None = None
    """When the check began that has not returned, likewise."""

    @property
    def state(self) -> pb.ComponentState.ValueType:
        if not self.reason:
            return pb.COMPONENT_STATE_OK
        return pb.COMPONENT_STATE_DOWN if self.vital else pb.COMPONENT_STATE_DEGRADED


class Status:
    """Checks components all the time, so that health and `GetStatus` answer at once whatever hangs."""

    def __init__(self, service: str, instance: str, clock: Clock = system_clock) -> None:
        self._service = service
        self._instance = instance
        self._clock = clock
        self._started = time.monotonic()
        self._components: list[_Component] = []
        self._attributes: dict[str, Callable[[], str]] = {}
        self._health_names: list[str] = []
        self._draining = False
        # Each component is checked in a thread of its own: what hangs is none of the others' business.
        self._checks: list[Background] = []
        self._watching = Background(
            "status", self._watch, "the components of the status could not be looked at", every=_CHECK_SECONDS
        )
        self.health = Health()

    def component(self, name: str, check: Check, *, vital: bool = True) -> None:
        """Adds something that the service cannot work without, or where it is not `vital`, not as well."""
        component = _Component(name, check, vital, since=time.monotonic())
        self._components.append(component)
        self._checks.append(
            Background(
                f"status of {name}",
                partial(self._check, component),
                "a component of the status could not be checked",
                every=_CHECK_SECONDS,
            )
        )

    def attribute(self, name: str, value: str | Callable[[], str]) -> None:
        """Adds a fact worth showing, such as the key provider in use, or a function that answers it at once."""
        self._attributes[name] = value if callable(value) else lambda: value

    def serves(self, grpc_service: str) -> None:
        """Reports the health of a gRPC service: SERVING while every vital component works. The empty name stands for
        the process, which is SERVING until it drains."""
        self._health_names.append(grpc_service)
        self.health.set(grpc_service, NOT_SERVING)

    def start(self) -> None:
        """Begins to check."""
        self.health.set("", SERVING)
        for check in self._checks:
            check.start()
        self._watching.start()

    def drain(self) -> None:
        """Turns every health answer to NOT_SERVING for good."""
        self._draining = True
        for work in (*self._checks, self._watching):
            work.end()
        self.health.end()

    def get(self, view: View) -> pb.GetStatusResponse:
        """The answer to `GetStatus`."""
        states = [component.state for component in self._components]
        state = pb.COMPONENT_STATE_DOWN if self._draining else max(states, default=pb.COMPONENT_STATE_OK)
        answer = pb.GetStatusResponse(service=self._service, state=state)
        if view is View.SERVES:
            return answer
        for component in self._components:
            answer.components.add(name=component.name, state=component.state, reason=component.reason)
        if view is View.WHOLE:
            self._tell_all(answer)
        return answer

    def _tell_all(self, answer: pb.GetStatusResponse) -> None:
        now_us, now = self._clock.now_us(), time.monotonic()
        answer.instance = self._instance
        answer.version = version("strongroom")
        answer.start_time.CopyFrom(_moment(self._started, now_us, now))
        answer.uptime.FromNanoseconds(int((now - self._started) * 1e9))
        answer.attributes.update({name: value() for name, value in self._attributes.items()})
        for told, component in zip(answer.components, self._components, strict=True):
            told.detail = component.detail
            told.since.CopyFrom(_moment(component.since, now_us, now))

    def _watch(self) -> None:
        for component in self._components:
            began = component.began
            if began is not None and time.monotonic() - began > _OVERDUE_SECONDS:
                self._note(
                    component, Reason.DEADLINE_EXCEEDED, f"its check has not returned for {_OVERDUE_SECONDS:g} s"
                )
        down = any(
            component.state == pb.COMPONENT_STATE_DOWN or (component.vital and not component.checked)
            for component in self._components
        )
        answer = NOT_SERVING if down else SERVING
        for name in self._health_names:
            self.health.set(name, answer)

    def _check(self, component: _Component) -> None:
        reason, detail = "", ""
        component.began = time.monotonic()
        try:
            component.check()
        except StrongroomError as error:
            reason, detail = error.reason, error.message
        except Exception as error:  # noqa: BLE001  # a check that breaks is a component that does not work
            reason, detail = "INTERNAL", type(error).__name__
        component.began = None
        self._note(component, reason, detail)
        component.checked = True

    def _note(self, component: _Component, reason: str, detail: str) -> None:
        if reason != component.reason:
            component.since = time.monotonic()
            level = logging.WARNING if reason else logging.INFO
            log.log(level, "component changed", extra={"fields": {"component": component.name, "reason": reason}})
        component.reason, component.detail = reason, detail


def _moment(then: float, now_us: int, now: float) -> Timestamp:
    """The time of day, by what it is now, of a moment on the monotonic clock."""
    return from_microseconds(now_us - int((now - then) * 1e6))
