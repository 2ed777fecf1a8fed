"""Whatever a server sends, hostile or newer than the client, has a value in Python."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

import strongroom
from strongroom.cli.tables import time_text
from strongroom.convert import duration, enum_text, moment, span, timestamp
from strongroom.errors import DOMAIN, from_rpc_error
from strongroom.keystore.v1.key_pb2 import KeySpec

_MOST = 2**63 - 1
_SECONDS = (1, -1, 253402300799, 253402300800, -62135596800, -62135596801, 2**62, _MOST, -_MOST - 1)
_NANOS = (0, 1, 999_999_999, 2**31 - 1, -(2**31))


@pytest.mark.parametrize("seconds", _SECONDS)
@pytest.mark.parametrize("nanos", _NANOS)
def test_every_time_is_one_that_can_be_told_in_every_zone(seconds: int, nanos: int) -> None:
    told = moment(Timestamp(seconds=seconds, nanos=nanos))
    assert told is not None
    for hours in (-14, 14):
        assert told.astimezone(timezone(timedelta(hours=hours))).isoformat()
    assert datetime.fromtimestamp(told.timestamp(), UTC)
    assert time_text(told)


@pytest.mark.parametrize("seconds", _SECONDS)
@pytest.mark.parametrize("nanos", _NANOS)
def test_every_duration_is_one_that_can_be_told(seconds: int, nanos: int) -> None:
    assert str(span(Duration(seconds=seconds, nanos=nanos)))


def test_what_is_in_order_is_exact() -> None:
    time = datetime(2026, 11, 28, 12, 30, 1, 250_001, tzinfo=UTC)
    assert moment(timestamp(time, "time")) == time
    assert moment(Timestamp()) is None
    length = timedelta(days=400, microseconds=7)
    assert span(duration(length)) == length


def test_enums_of_a_newer_server_are_their_numbers() -> None:
    assert enum_text(KeySpec, "KEY_SPEC_", KeySpec.ValueType(2**31 - 1)) == str(2**31 - 1)


def test_times_and_durations_are_converted_in_one_place() -> None:
    package = Path(strongroom.__file__).parent
    partial = ("ToTimedelta(", "ToDatetime(", "ToNanoseconds(", "ToSeconds(", "ToJsonString(")
    found = [
        f"{path.relative_to(package)}: {word}"
        for path in package.rglob("*.py")
        if not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
        for word in partial
        if word in path.read_text()
    ]
    assert not found


class Failed(grpc.RpcError):
    """A call that a server ended, with details of its choice."""

    def __init__(self, details: bytes) -> None:
        self._details = details

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "no"

    def trailing_metadata(self) -> Any:
        return (("grpc-status-details-bin", self._details),)


def _status(*details: AnyMessage) -> bytes:
    return bytes(Status(code=14, message="no", details=details).SerializeToString())


def _packed(message: ErrorInfo | RetryInfo) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


_INFO = _packed(ErrorInfo(reason="OVERLOADED", domain=DOMAIN))


@pytest.mark.parametrize(
    "details",
    [
        b"\xff\xff\xff",
        _status(AnyMessage(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff")),
        *(
            _status(_INFO, _packed(RetryInfo(retry_delay=Duration(seconds=seconds, nanos=nanos))))
            for seconds in _SECONDS
            for nanos in _NANOS
        ),
    ],
)
def test_whatever_a_server_says_of_an_error_it_is_one(details: bytes) -> None:
    error = from_rpc_error(Failed(details), "service")
    assert error.code_name == "UNAVAILABLE"
    assert error.retry_after_seconds >= 0
