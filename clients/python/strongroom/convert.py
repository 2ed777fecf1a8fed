"""Between the contracts' types and Python's own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from strongroom.errors import StrongroomError

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper as Enum

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What Python's own types can hold, in every time zone: what a server sends beyond that is told as the last or first.
_FIRST, _LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
_FIRST_SECOND, _LAST_SECOND = ((end - _EPOCH) // timedelta(seconds=1) for end in (_FIRST, _LAST))
_LONGEST_SECONDS = 86_400 * 999_999_998


Value = TypeVar("Value", bound=int)


def enum_text(enum: Enum[Value], prefix: str, number: Value) -> str:
    """`AES_256` for `KEY_SPEC_AES_256`; the number itself for a value that is newer than this client."""
    try:
        return enum.Name(number).removeprefix(prefix)
    except ValueError:
        return str(number)


def enum_number(enum: Enum[Value], prefix: str, text: str, field: str) -> Value:
    """The value of an enum from its text, in any case, with `-` for `_`; 0 for the empty string.

    Raises FIELD_INVALID.
    """
    name = prefix + text.upper().replace("-", "_") if text else prefix + "UNSPECIFIED"
    known = list(enum.keys())
    if name not in known:
        choices = ", ".join(choice.removeprefix(prefix) for choice in known[1:])
        raise StrongroomError("FIELD_INVALID", f"{field} is none of {choices}: {text}", field=field)
    return enum.Value(name)


def moment(timestamp: Timestamp) -> datetime | None:
    """The time in UTC, exact to the microsecond; None where it is not set. One that no datetime can tell is the first
    or the last that one can."""
    if not timestamp.seconds and not timestamp.nanos:
        return None
    if not _FIRST_SECOND <= timestamp.seconds < _LAST_SECOND:
        return _LAST if timestamp.seconds > 0 else _FIRST
    return _EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1000)


def timestamp(time: datetime, field: str) -> Timestamp:
    """A time as the contracts have it. Raises FIELD_INVALID for a time without a zone."""
    if time.tzinfo is None:
        raise StrongroomError("FIELD_INVALID", f"{field} has no time zone", field=field)
    whole = (time - _EPOCH) // timedelta(microseconds=1)
    return Timestamp(seconds=whole // 1_000_000, nanos=whole % 1_000_000 * 1000)


def span(duration: Duration) -> timedelta:
    """A duration in Python's type; one that is longer than that can tell is the longest."""
    seconds = min(max(duration.seconds, -_LONGEST_SECONDS), _LONGEST_SECONDS)
    return timedelta(seconds=seconds, microseconds=duration.nanos // 1000)


def duration(length: timedelta) -> Duration:
    """A duration as the contracts have it."""
    message = Duration()
    message.FromTimedelta(length)
    return message
