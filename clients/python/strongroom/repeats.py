"""Which calls are made again when nobody answered them: those that change nothing or come to the same, and those that a
service knows again by their request id. Others, where nothing was done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import grpc
from google.protobuf.message import Message

# What nobody answered may have been done, and a second one of these is refused because of the first: what was deleted
# is not there, and an etag is of the version before.
_ONCE: Mapping[str, tuple[str, ...]] = {
    "strongroom.access.v1.AccessService": (
        "UpdateAccount",
        "UpdatePrincipal",
        "SetPrincipalTags",
        "SetPrincipalRoles",
        "DeletePrincipal",
        "RevokeSessions",
        "UpdatePolicy",
        "DeletePolicy",
        "AttachPolicy",
        "DetachPolicy",
        "RevokeGrant",
        "RetireGrant",
        "UpdateClientKey",
        "DeleteClientKey",
        "UpdateOidcProvider",
        "DeleteOidcProvider",
        "UpdateQuota",
        "ResetQuota",
    ),
    "strongroom.access.v1.SessionService": ("RevokeSession",),
    "strongroom.audit.v1.AuditService": (
        "AddCosignatures",
        "ShredAccountEvents",
        "UpdateRetentionPolicy",
        "UpdateLegalHold",
    ),
    "strongroom.keystore.v1.KeyService": (
        "UpdateKey",
        "ScheduleKeyDeletion",
        "CancelKeyDeletion",
        "DestroyKeyVersion",
        "CancelKeyVersionDestruction",
        "SetPrimaryKeyVersion",
        "UpdateRotationPolicy",
        "DeleteImportedKeyMaterial",
        "UpdateAlias",
        "DeleteAlias",
    ),
    "strongroom.secrets.v1.SecretService": (
        "UpdateSecret",
        "RestoreSecret",
        "UpdateSecretVersionStage",
        "DestroySecretVersion",
        "ResumeRotation",
        "CancelRotation",
        "RepairSecret",
        "UpdateRotationPolicy",
    ),
}
_REQUESTS = frozenset(
    f"{service.rpartition('.')[0]}.{method}Request" for service, methods in _ONCE.items() for method in methods
)
# gRPC's own retries, in which a call that must not be made twice has no part.
_PAUSES = (0.1, 0.2, 0.4)
RETRIES: Mapping[str, Any] = {
    "methodConfig": [
        {"name": [{"service": service, "method": method} for service, methods in _ONCE.items() for method in methods]},
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": len(_PAUSES) + 1,
                "initialBackoff": f"{_PAUSES[0]}s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                # gRPC itself answers CANCELLED for what it had not handed over when a server stopped.
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        },
    ]
}
_CONNECTING_SECONDS = 1.0
_LOOK_SECONDS = 0.005
_READY = grpc.ChannelConnectivity.READY.value[0]
_STATUS_DETAILS = "grpc-status-details-bin"
_PUSHBACK, _NEVER = "grpc-retry-pushback-ms", "-1"

T = TypeVar("T")


def is_repeatable(request: Message) -> bool:
    """Whether a call may be made again though it may have been done."""
    return request.DESCRIPTOR.full_name not in _REQUESTS


def is_answered(error: grpc.RpcError) -> bool:
    """Whether a service says why a call failed, not gRPC alone."""
    return _STATUS_DETAILS in _trailers(error)


def nothing_was_done(error: grpc.RpcError) -> bool:
    """Whether a service says that it cannot take a call now, and has not begun it."""
    # What a stub raises is always both.
    said = cast("grpc.Call", error).code() is grpc.StatusCode.UNAVAILABLE and is_answered(error)
    return said and _trailers(error).get(_PUSHBACK) != _NEVER


def is_connected(channel: grpc.Channel, seconds: float) -> bool:
    """Whether there is a connection within so many seconds: what fails without one was not sent, and what fails with
    one may have been."""
    # What gRPC has for it in public keeps a thread, which ends in a traceback when the channel is closed meanwhile.
    look: Callable[[bool], int] | None = getattr(getattr(channel, "_channel", None), "check_connectivity_state", None)
    if look is None:
        return True
    deadline = time.monotonic() + min(seconds, _CONNECTING_SECONDS)
    while look(True) != _READY:  # and connects
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def made_once(call: Callable[[float], T], timeout: float) -> T:
    """What `call` answers within a number of seconds; it is made again as long as nothing was done. Raises what it
    does."""
    deadline = time.monotonic() + timeout
    for pause in _PAUSES:
        try:
            return call(deadline - time.monotonic())
        except grpc.RpcError as error:
            if not nothing_was_done(error) or time.monotonic() + pause >= deadline:
                raise
        time.sleep(pause)
    return call(deadline - time.monotonic())


def _trailers(error: grpc.RpcError) -> dict[str, Any]:
    return dict(cast("grpc.Call", error).trailing_metadata() or ())
