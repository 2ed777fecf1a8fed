"""How long a process has been running, and a component in its state, does not depend on what time of day it is made."""

from __future__ import annotations

import threading
from io import StringIO

import pytest
from grpc_health.v1 import health_pb2
from rich.console import Console

from services.runtime.errors import Reason, StrongroomError
from services.runtime.rpc import status as status_module
from services.runtime.rpc.health import NOT_SERVING, SERVING
from services.runtime.rpc.status import Status, View
from strongroom.calls.mesh.status import ServiceStatus
from strongroom.cli.status import _status_table
from tests.support.clients import until
from tests.support.clocks import SkewedClock

_HOUR_NS = 3_600 * 10**9


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_clock_that_is_set_moves_no_uptime(hours: int) -> None:
    clock = SkewedClock()
    status = Status("crypto", "here/1", clock)
    status.component("keystore", lambda: None)
    before = status.get(View.WHOLE)
    clock.seconds = hours * 3_600
    after = status.get(View.WHOLE)
    assert 0 <= before.uptime.ToNanoseconds() <= after.uptime.ToNanoseconds() < _HOUR_NS
    # By what time it is now, so that the two go together.
    moved_ns = after.start_time.ToNanoseconds() - before.start_time.ToNanoseconds()
    assert abs(moved_ns - hours * _HOUR_NS) < 10**9
    component_ns = after.components[0].since.ToNanoseconds() - before.components[0].since.ToNanoseconds()
    assert abs(component_ns - hours * _HOUR_NS) < 10**9


def test_strangers_are_not_told_for_how_long() -> None:
    status = Status("crypto", "here/1")
    assert not status.get(View.SERVES).HasField("uptime")
    assert not status.get(View.COMPONENTS).HasField("uptime")


def test_the_command_line_shows_what_the_service_says_of_itself() -> None:
    shown = Console(file=StringIO(), width=120)
    shown.print(_status_table((ServiceStatus("crypto", "OK", uptime_seconds=7_200.0),)))
    assert isinstance(shown.file, StringIO)
    assert "2h" in shown.file.getvalue()


def test_a_check_that_hangs_is_told_as_down_and_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_module, "_OVERDUE_SECONDS", 0.2)
    going_on, broken = threading.Event(), threading.Event()

    def hang() -> None:
        going_on.wait(30)

    def check() -> None:
        if broken.is_set():
            raise StrongroomError(Reason.KEYSTORE_STALE, "stale")

    status = Status("crypto", "here/1")
    status.serves("strongroom.crypto.v1.CryptoService")
    status.component("database", hang)
    status.component("keystore", check)
    status.start()

    def reasons() -> list[str]:
        return [one.reason for one in status.get(View.COMPONENTS).components]

    def health() -> object:
        request = health_pb2.HealthCheckRequest(service="strongroom.crypto.v1.CryptoService")
        return status.health.check(request, None).status  # type: ignore[arg-type]  # it sets no code

    assert health() == NOT_SERVING
    until(lambda: reasons() == ["DEADLINE_EXCEEDED", ""])
    assert health() == NOT_SERVING
    broken.set()
    until(lambda: reasons() == ["DEADLINE_EXCEEDED", "KEYSTORE_STALE"])
    broken.clear()
    going_on.set()
    until(lambda: reasons() == ["", ""] and health() == SERVING)
    status.drain()
    assert health() == NOT_SERVING
