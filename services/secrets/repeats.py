"""Request ids: the same request again answers what the first did, another one under the same id is refused."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

from services.runtime.errors import Reason, StrongroomError, invalid
from services.runtime.identifiers import is_uuid
from strongroom.secrets.v1.secret_service_pb2 import CreateSecretRequest, PutSecretValueRequest

REPEATABLE_US = 24 * 3600 * 1_000_000
"""How long a request id is remembered."""

R = TypeVar("R", CreateSecretRequest, PutSecretValueRequest)


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A request that may come again."""

    request_id: str
    digest: bytes
    """SHA-256 of the method and of everything in the request but the value, of which it holds the length: a digest of
    the value would let whoever reads the database try out what it may be."""


def repeatable(request: R) -> Repeatable | None:
    """The request's id and digest, or None when it has no id. Raises FIELD_INVALID for one that is no UUID."""
    if not request.request_id:
        return None
    if not is_uuid(request.request_id):
        raise invalid("request_id", "is not a UUID")
    public = type(request)()
    public.CopyFrom(request)
    public.ClearField("value")
    public.ClearField("value_crc32c")
    public.ClearField("request_id")
    told = f"{request.DESCRIPTOR.full_name} {len(request.value)} ".encode()
    return Repeatable(request.request_id.lower(), sha256(told + public.SerializeToString(deterministic=True)).digest())


def reused() -> StrongroomError:
    """A request id came with another request than before."""
    return StrongroomError(
        Reason.REQUEST_ID_REUSED, "request_id was used for another request before", field="request_id"
    )
