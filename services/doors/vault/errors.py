"""Errors as Vault tells them: a status, and `{"errors": [...]}`."""

from __future__ import annotations

import json
import math

import grpc

from services.doors.listening.exchange import HttpError, Response
from services.runtime.errors import Reason, StrongroomError

PERMISSION_DENIED = "permission denied"
"""What clients look for, whatever the reason."""

_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 400,
    grpc.StatusCode.ALREADY_EXISTS: 400,
    grpc.StatusCode.UNIMPLEMENTED: 400,
    grpc.StatusCode.UNAUTHENTICATED: 403,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 503,
}
# A request that can never succeed is no reason to try again later.
_OWN_STATUS = {Reason.LIMIT_EXCEEDED: 400}


def refusal(error: HttpError) -> Response:
    """The answer that tells of an error."""
    headers = (("retry-after", str(error.retry_after_seconds)),) if error.retry_after_seconds else ()
    return Response(error.status, json.dumps({"errors": list(error.messages)}).encode(), headers)


def of_the_mesh(error: StrongroomError) -> HttpError:
    """What the mesh refused, as Vault would. What is missing has no message, which is how Vault says so."""
    status = _OWN_STATUS.get(error.reason) or _STATUS.get(error.code, 500)
    told = f"{error.reason}: {error.message}"
    wait = math.ceil(error.retry_after_seconds)
    if status == 404:
        return HttpError(404)
    if status == 403:
        # Why a credential is refused the mesh tells nobody; the reasons that it does tell help to find a mistake.
        return HttpError(403, PERMISSION_DENIED, told)
    return HttpError(status, told, retry_after_seconds=wait if status in (429, 503) else 0)


def not_found() -> HttpError:
    """There is nothing at this path."""
    return HttpError(404)


def unsupported(why: str) -> HttpError:
    """Something that Vault does, and that this door refuses rather than do it differently."""
    return HttpError(400, f"not supported by this door: {why}")


def invalid(why: str) -> HttpError:
    """A request that is wrong."""
    return HttpError(400, why)


def no_operation() -> HttpError:
    """The path is there, and does not do that."""
    return HttpError(405, "unsupported operation")
