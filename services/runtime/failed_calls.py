"""Calls to other services that failed: what gRPC raised, read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from services.runtime.errors import DOMAIN, Reason, StrongroomError


def from_rpc_error(error: grpc.RpcError, unreachable: Reason, peer: str) -> StrongroomError:
    """What a failed call to another service of the mesh means to our own caller.

    A reason that the other service gave passes through; anything else becomes `unreachable`.
    """
    details = _status_details(error)
    for detail in details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN and info.reason in Reason.__members__:
            metadata = dict(info.metadata)
            field = metadata.pop("field", "")
            passed = StrongroomError(Reason(info.reason), str(_call(error).details()), field=field, **metadata)
            passed.retry_after_seconds = _retry_after_seconds(details)
            return passed
    code = rpc_code(error).name
    return StrongroomError(unreachable, f"{peer} cannot be reached ({code})", peer=peer, status=code)


def rpc_code(error: grpc.RpcError) -> grpc.StatusCode:
    """The status code of a call that failed."""
    return _call(error).code()


def trailing_metadata(error: grpc.RpcError) -> Sequence[tuple[str, str | bytes]]:
    """What a call that failed came with."""
    return _call(error).trailing_metadata() or ()


def _call(error: grpc.RpcError) -> grpc.Call:
    # What a synchronous channel raises is always both; gRPC's types do not say so.
    return cast(grpc.Call, error)


def _retry_after_seconds(details: list[any_pb2.Any]) -> float:
    retry = error_details_pb2.RetryInfo()
    told = any(detail.Unpack(retry) for detail in details)
    return retry.retry_delay.ToNanoseconds() / 1e9 if told else 0.0


def _status_details(error: grpc.RpcError) -> list[any_pb2.Any]:
    for key, value in _call(error).trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            return list(status_pb2.Status.FromString(value).details)
    return []
