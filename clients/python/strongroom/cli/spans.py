"""Spans of time and moments, as every option takes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import typer

# As it is typed, or as it is shown.
_SPAN = re.compile(r"[0-9]{1,9}[smhdw](?: ?[0-9]{1,9}[smhdw])*")
_PART = re.compile(r"([0-9]+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_BARE = re.compile(r"[0-9]{1,9}")
# Nothing here lasts longer, and every moment that such a span leads to can be written down.
_MOST = timedelta(days=36_600)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END = datetime(9999, 12, 31, tzinfo=UTC)


def span_of(text: str, option: str, unit: str = "") -> timedelta:
    """A span of time such as `90s`, `15m`, `1h30m`, `30d`, `2w`; with `unit`, a bare number is so many of it.

    A usage error for anything else, and for more than a hundred years.
    """
    given = f"{text}{unit}" if unit and _BARE.fullmatch(text) else text
    span = _span(given)
    if span is None:
        raise typer.BadParameter(f"'{text}' is no span of time such as 15m, 6h or 30d", param_hint=option)
    if span > _MOST:
        raise typer.BadParameter(f"'{text}' is more than a hundred years", param_hint=option)
    return span


def moment_of(text: str, option: str) -> datetime:
    """A time: RFC 3339 (UTC where no zone is given), or an age such as `90s`, `15m`, `2h`, `7d`."""
    if _SPAN.fullmatch(text):
        return datetime.now(UTC) - span_of(text, option)
    return _moment(text, option, "an age such as 15m")


def later_of(text: str, option: str, unit: str = "") -> datetime:
    """A time to come: RFC 3339, or how long from now, such as `15m`, `8h`, `30d`."""
    if _SPAN.fullmatch(text) or (unit and _BARE.fullmatch(text)):
        return datetime.now(UTC) + span_of(text, option, unit)
    return _moment(text, option, "a span such as 30d")


def _moment(text: str, option: str, other: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"'{text}' is neither a time such as 2026-11-24T02:25Z nor {other}", param_hint=option
        ) from None
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    if not _EPOCH <= time <= _END:
        raise typer.BadParameter(f"'{text}' is not between 1970 and 9999", param_hint=option)
    return time


def _span(text: str) -> timedelta | None:
    if not _SPAN.fullmatch(text):
        return None
    try:
        return sum((timedelta(**{_UNITS[unit]: int(count)}) for count, unit in _PART.findall(text)), timedelta())
    except OverflowError:
        return timedelta.max
