"""When a secret is rotated by itself: the policy's limits, jitter and maintenance window."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import SystemRandom
from zoneinfo import ZoneInfo

from services.runtime.errors import invalid, required
from services.runtime.requests.fields import whole_seconds
from services.secrets.core.model import DEFAULT_MAX_ATTEMPTS, Secret
from strongroom.secrets.v1.rotation_pb2 import MaintenanceWindow, RotationPolicy, Weekday

_MIN_PERIOD_S = 6 * 3600
_MAX_PERIOD_S = 365 * 86_400
_MIN_WINDOW_S = 15 * 60
_MAX_WINDOW_S = 86_400
_MAX_ATTEMPTS = 100
_SECOND_US = 1_000_000
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_DAYS_AHEAD = 9


def check_policy(policy: RotationPolicy, field: str = "rotation_policy") -> RotationPolicy:
    """The policy, once every part of it is within its limits. Raises FIELD_REQUIRED, FIELD_INVALID."""
    if not policy.HasField("period"):
        raise required(f"{field}.period")
    period_s = whole_seconds(policy.period, f"{field}.period")
    if not _MIN_PERIOD_S <= period_s <= _MAX_PERIOD_S:
        raise invalid(f"{field}.period", "must be from 6 hours to 365 days")
    if not 0 <= whole_seconds(policy.jitter, f"{field}.jitter") <= period_s // 4:
        raise invalid(f"{field}.jitter", "must be from 0 to a quarter of the period")
    if policy.max_attempts > _MAX_ATTEMPTS:
        raise invalid(f"{field}.max_attempts", f"must be from 1 to {_MAX_ATTEMPTS}")
    if policy.HasField("window"):
        _check_window(policy.window, f"{field}.window")
    return policy


def require_outlives(secret: Secret) -> None:
    """Raises FIELD_INVALID where a client key would end before the rotation that replaces it has."""
    if not secret.principal or secret.rotation_policy is None:
        return
    if secret.client_key_lifetime_s <= secret.rotation_policy.period.seconds + secret.grace_period_s:
        raise invalid(
            "secret.target.client_key.client_key_lifetime", "is not longer than rotation period and grace period"
        )


def max_attempts(secret: Secret) -> int:
    """How often each step of a rotation of the secret is tried."""
    given = secret.rotation_policy.max_attempts if secret.rotation_policy is not None else 0
    return given or DEFAULT_MAX_ATTEMPTS


def next_due_us(policy: RotationPolicy | None, last_us: int) -> int | None:
    """When the rotation after one at `last_us` falls due, both in microseconds; None without a policy."""
    if policy is None:
        return None
    jitter_us = SystemRandom().randint(0, policy.jitter.ToMicroseconds())
    return next_opening_us(policy, last_us + policy.period.ToMicroseconds() - jitter_us)


def next_opening_us(policy: RotationPolicy, at_us: int) -> int:
    """`at_us` where the policy's window is open then, or when it opens next."""
    if not policy.HasField("window"):
        return at_us
    at = datetime.fromtimestamp(at_us // _SECOND_US, UTC)
    for start, end in _openings(policy.window, at):
        if at < end:
            return at_us if start <= at else int(start.timestamp()) * _SECOND_US
    raise AssertionError("a window opens every week")


def _openings(window: MaintenanceWindow, at: datetime) -> Iterator[tuple[datetime, datetime]]:
    """From when to when the window is open, in UTC, from the day before `at` on."""
    zone = ZoneInfo(window.time_zone or "UTC")
    hour, minute = (int(part) for part in window.start.split(":"))
    days = set(window.days) or set(Weekday.values())
    first = at.astimezone(zone).date() - timedelta(days=1)
    for number in range(_DAYS_AHEAD + 1):
        day = first + timedelta(days=number)
        if day.isoweekday() in days:
            # In the clock's own zone: at 02:30 it opens at 02:30 also when clocks change.
            start = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).astimezone(UTC)
            yield start, start + window.duration.ToTimedelta()


def _check_window(window: MaintenanceWindow, field: str) -> None:
    if any(day not in Weekday.values() or not day for day in window.days):
        raise invalid(f"{field}.days", "has something that is no day of the week")
    if not window.start:
        raise required(f"{field}.start")
    if not _TIME.fullmatch(window.start):
        raise invalid(f"{field}.start", "is not of the form HH:MM")
    if not _MIN_WINDOW_S <= whole_seconds(window.duration, f"{field}.duration") <= _MAX_WINDOW_S:
        raise invalid(f"{field}.duration", "must be from 15 minutes to 24 hours")
    try:
        ZoneInfo(window.time_zone or "UTC")
    except (KeyError, OSError, ValueError) as error:  # absent, or no name of a zone at all
        raise invalid(f"{field}.time_zone", "is not the IANA name of a time zone") from error
