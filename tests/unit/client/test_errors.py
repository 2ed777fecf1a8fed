"""What a failed call becomes."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from strongroom.errors import StrongroomError, event_id_in, from_rpc_error


class Failure(grpc.RpcError):
    """A failed call, as stubs raise it."""

    def __init__(self, code: grpc.StatusCode, details: str, *metadata: tuple[str, str | bytes]) -> None:
        self._code, self._details, self._metadata = code, details, metadata

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._metadata


def test_a_reason_comes_with_everything_the_service_said() -> None:
    status = _status(
        7,
        "key payments is disabled",
        error_details_pb2.ErrorInfo(reason="KEY_DISABLED", domain="strongroom", metadata={"field": "key", "key": "k"}),
        error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=1, nanos=500_000_000)),
    )
    failure = Failure(
        grpc.StatusCode.PERMISSION_DENIED,
        "key payments is disabled",
        ("grpc-status-details-bin", status),
        ("strongroom-event-id", "0193"),
    )
    error = from_rpc_error(failure, "crypto at localhost:1", "a" * 32)
    assert (error.reason, error.message, error.code) == (
        "KEY_DISABLED",
        "key payments is disabled",
        grpc.StatusCode.PERMISSION_DENIED,
    )
    assert (error.field, error.metadata, error.retry_after_seconds) == ("key", {"key": "k"}, 1.5)
    assert (error.event_id, error.trace_id) == ("0193", "a" * 32)


def test_a_service_that_is_not_there_is_unreachable_and_named() -> None:
    failure = Failure(grpc.StatusCode.UNAVAILABLE, "connection refused")
    error = from_rpc_error(failure, "crypto at localhost:1")
    assert error.reason == "UNREACHABLE"
    assert "crypto at localhost:1" in error.message
    assert "connection refused" in error.message
    assert error.event_id == ""


def test_a_deadline_that_passes_here_says_so() -> None:
    error = from_rpc_error(Failure(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"), "crypto at localhost:1")
    assert (error.reason, error.code) == ("DEADLINE_EXCEEDED", grpc.StatusCode.DEADLINE_EXCEEDED)


def test_details_of_another_domain_or_of_no_sense_give_no_reason() -> None:
    foreign = _status(5, "gone", error_details_pb2.ErrorInfo(reason="X", domain="elsewhere"))
    contradicting = _status(3, "other", error_details_pb2.ErrorInfo(reason="X", domain="strongroom"))
    for details in (foreign, contradicting, _status(5, "gone")):
        failure = Failure(grpc.StatusCode.NOT_FOUND, "gone", ("grpc-status-details-bin", details))
        assert from_rpc_error(failure, "peer").reason == "NOT_FOUND"


def test_the_event_id_is_found_among_the_trailing_metadata() -> None:
    assert event_id_in((("other", "x"), ("strongroom-event-id", "0193"))) == "0193"
    assert event_id_in(None) == event_id_in(()) == ""


def test_its_text_holds_reason_and_message() -> None:
    assert str(StrongroomError("KEY_DISABLED", "the key is disabled")) == "KEY_DISABLED: the key is disabled"


def _status(code: int, message: str, *details: Any) -> bytes:
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return bytes(status_pb2.Status(code=code, message=message, details=packed).SerializeToString())
