"""How long a process has been running, and a component in its state, does not depend on what time of day it is made."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from services.runtime.rpc.status import Status, View
from strongroom.calls.mesh.status import ServiceStatus
from strongroom.cli.status import _status_table
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
