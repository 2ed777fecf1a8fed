"""When rotations fall due: jitter, windows, and clocks that change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from services.secrets.rotation.policy import next_due_us, next_opening_us
from strongroom.secrets.v1.rotation_pb2 import WEEKDAY_SUNDAY, MaintenanceWindow, RotationPolicy


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


def text(at_us: int | None) -> str:
    assert at_us is not None
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M")


def policy(start: str = "", *, zone: str = "", days: tuple[int, ...] = (), hours: float = 1.0) -> RotationPolicy:
    window = None
    if start:
        length = Duration(seconds=int(hours * 3600))
        window = MaintenanceWindow(start=start, time_zone=zone, days=days, duration=length)  # type: ignore[arg-type]
    return RotationPolicy(period=Duration(seconds=86_400), window=window)


def test_without_a_policy_nothing_falls_due() -> None:
    assert next_due_us(None, 0) is None


def test_jitter_brings_a_rotation_forward_by_up_to_itself() -> None:
    jittered = RotationPolicy(period=Duration(seconds=86_400), jitter=Duration(seconds=3600))
    last = us("2026-11-24T00:00")
    due = [next_due_us(jittered, last) for _ in range(200)]
    early = [last + 86_400_000_000 - at for at in due if at is not None]
    assert min(early) >= 0
    assert max(early) <= 3_600_000_000
    assert max(early) - min(early) > 1_800_000_000


@pytest.mark.parametrize(
    ("at", "opens"),
    [
        ("2026-11-24T01:59", "2026-11-24T02:00"),
        ("2026-11-24T02:00", "2026-11-24T02:00"),
        ("2026-11-24T02:59", "2026-11-24T02:59"),
        ("2026-11-24T03:00", "2026-11-25T02:00"),
    ],
)
def test_what_falls_due_outside_a_window_waits_for_it(at: str, opens: str) -> None:
    assert text(next_opening_us(policy("02:00"), us(at))) == opens


def test_a_window_may_end_on_the_next_day() -> None:
    late = policy("23:00", hours=4)
    assert text(next_opening_us(late, us("2026-11-24T01:30"))) == "2026-11-24T01:30"


def test_a_window_opens_on_its_days_alone() -> None:
    # 24 November 2026 is a Tuesday.
    sundays = policy("02:00", days=(WEEKDAY_SUNDAY,))
    assert text(next_opening_us(sundays, us("2026-11-24T12:00"))) == "2026-11-29T02:00"


def test_a_window_keeps_to_the_clock_of_its_zone() -> None:
    berlin = policy("02:30", zone="Europe/Berlin")
    # Summer time ends on 25 October 2026.
    assert text(next_opening_us(berlin, us("2026-10-24T12:00"))) == "2026-10-25T00:30"
    assert text(next_opening_us(berlin, us("2026-10-25T12:00"))) == "2026-10-26T01:30"


def test_a_day_of_24_hours_is_always_open() -> None:
    whole = policy("00:00", hours=24)
    at = us("2026-11-24T13:37")
    assert next_opening_us(whole, at) == at
    assert next_due_us(whole, at) == at + timedelta(days=1) // timedelta(microseconds=1)
