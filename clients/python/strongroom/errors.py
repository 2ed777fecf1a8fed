"""The one exception of the client, and how it is read from a failed call."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import grpc
    from google.rpc.status_pb2 import Status

DOMAIN = "strongroom"
EVENT_ID = "strongroom-event-id"

UNREACHABLE = "UNREACHABLE"
DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
ANSWER_CORRUPTED = "ANSWER_CORRUPTED"

AWAY = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"})
"""Codes of a service that could not serve now, or of one that it needs: another time it may. Others are its answer."""


class StrongroomError(Exception):
    """A call that was refused or failed, or something that the client itself refuses.

    `reason` is what programs switch on (`KEY_DISABLED`, `PERMISSION_DENIED`; see `docs/`); it is stable.
    `message` is a sentence for a person and never holds a secret. `field` names the request's field that is
    at fault, if one is. `metadata` says more, as the reason defines. `event_id` is the audit event of the
    call, `trace_id` its trace (32 hex digits); both are empty where there is none, as when no service was
    reached (reason `UNREACHABLE`). `retry_after_seconds` is how long the service asks to wait, 0 where it
    does not say. `method` is the one that was called, such as `CreateKey`; it is empty for what the client itself
    refuses.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        code: str = "INVALID_ARGUMENT",
        field: str = "",
        metadata: Mapping[str, str] | None = None,
        event_id: str = "",
        trace_id: str = "",
        retry_after_seconds: float = 0.0,
        method: str = "",
    ) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.field = field
        self.metadata = dict(metadata or {})
        self.event_id = event_id
        self.trace_id = trace_id
        self.retry_after_seconds = retry_after_seconds
        self.method = method
        self._code = code

    def renewed(self) -> StrongroomError:
        """A copy to raise: an exception that several raise grows each time."""
        return self._with_message(self.message)

    def with_advice(self, advice: str) -> StrongroomError:
        """A copy whose message goes on with what to do."""
        return self._with_message(f"{self.message}; {advice}")

    def about(self, what: str) -> StrongroomError:
        """A copy whose message begins with what it is about."""
        return self._with_message(f"{what}: {self.message}")

    def _with_message(self, message: str) -> StrongroomError:
        return StrongroomError(
            self.reason,
            message,
            code=self._code,
            field=self.field,
            metadata=self.metadata,
            event_id=self.event_id,
            trace_id=self.trace_id,
            retry_after_seconds=self.retry_after_seconds,
            method=self.method,
        )

    @property
    def code_name(self) -> str:
        """The name of `code`, for those who have no need of gRPC."""
        return self._code

    @property
    def code(self) -> grpc.StatusCode:
        """The gRPC status code; for what the client itself refuses, the one that a service would use."""
        import grpc

        return grpc.StatusCode[self._code]


def from_rpc_error(error: grpc.RpcError, peer: str, trace_id: str = "", method: str = "") -> StrongroomError:
    """What a failed call of `method` means. `peer` says which service, at which address, where it gave no reason."""
    # What a stub raises is always both.
    call = cast("grpc.Call", error)
    code = call.code().name
    event_id = event_id_in(call.trailing_metadata())
    status = _status_of(call)
    found = _from_status(status, code, event_id, trace_id) if status is not None else None
    made = found or _without_reason(code, str(call.details() or ""), peer, event_id, trace_id)
    made.method = method
    return made


def event_id_in(trailing_metadata: object) -> str:
    """The id of the call's audit event, or the empty string."""
    for key, value in trailing_metadata or ():  # type: ignore[attr-defined]  # grpc's stubs leave it open
        if key == EVENT_ID and isinstance(value, str):
            return value
    return ""


def _status_of(call: grpc.Call) -> Status | None:
    from google.protobuf.message import DecodeError
    from grpc_status import rpc_status

    try:
        return rpc_status.from_call(call)
    except (ValueError, DecodeError):  # details that cannot be read, or contradict the call's own status, are none
        return None


def _from_status(status: Status, code: str, event_id: str, trace_id: str) -> StrongroomError | None:
    from google.protobuf.message import DecodeError
    from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo

    info, retry = ErrorInfo(), RetryInfo()
    informed = False
    for detail in status.details:
        with suppress(DecodeError):
            informed = (detail.Unpack(info) and info.domain == DOMAIN) or informed
            detail.Unpack(retry)
    if not informed:
        return None
    metadata = dict(info.metadata)
    return StrongroomError(
        info.reason,
        status.message,
        code=code,
        field=metadata.pop("field", ""),
        metadata=metadata,
        event_id=event_id,
        trace_id=trace_id,
        retry_after_seconds=max(retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9, 0.0),
    )


def _without_reason(code: str, details: str, peer: str, event_id: str, trace_id: str) -> StrongroomError:
    if code in ("UNAVAILABLE", "CANCELLED"):
        # No service says CANCELLED: gRPC does, of a call that it had not handed over when the server stopped.
        code, reason, message = "UNAVAILABLE", UNREACHABLE, f"{peer} cannot be reached: {_cause(details)}"
    elif code == "DEADLINE_EXCEEDED":
        reason, message = DEADLINE_EXCEEDED, f"{peer} did not answer in time"
    else:
        reason, message = code, f"{peer}: {details}"
    return StrongroomError(reason, message, code=code, event_id=event_id, trace_id=trace_id)


def _cause(details: str) -> str:
    """What gRPC's core tells of a connection that it did not get, without the way there."""
    if "address lookup failed" in details:
        return "nobody knows that host"
    return details.rpartition("Failed to connect to remote host: ")[2]
