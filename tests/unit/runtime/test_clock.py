"""Nothing in the services asks the system what time it is but the clock."""

from __future__ import annotations

import ast
from pathlib import Path

from services.runtime.clock import from_microseconds, microseconds, system_clock

SERVICES = Path(__file__).resolve().parents[3] / "services"
CLOCK = SERVICES / "runtime" / "clock.py"
# What says how long something takes is `monotonic` and `perf_counter`, which nobody sets.
ASKED = {
    "time": {"time", "time_ns", "clock_gettime", "clock_gettime_ns"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}


def asks(path: Path) -> list[str]:
    """Where a module reads the wall clock, or takes a function that does."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if node.attr in ASKED.get(owner, ()):
                found.append(f"{path.relative_to(SERVICES)}:{node.lineno}")
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found += [
                f"{path.relative_to(SERVICES)}:{node.lineno}" for name in node.names if name.name in ASKED["time"]
            ]
    return found


def test_the_clock_alone_asks_the_system() -> None:
    assert asks(CLOCK), "the test does not see what it looks for"
    assert [place for path in SERVICES.rglob("*.py") if path != CLOCK for place in asks(path)] == []


def test_points_in_time_come_back_as_they_were() -> None:
    now_us = system_clock.now_us()
    assert microseconds(from_microseconds(now_us)) == now_us
    assert from_microseconds(1_500_000).ToJsonString() == "1970-01-01T00:00:01.500Z"
