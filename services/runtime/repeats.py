"""Request ids: the same request again answers what the first did, another one under the same id is refused."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from google.protobuf.message import Message

from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError, invalid
from services.runtime.identifiers import is_uuid

REPEATABLE_US = 24 * 3600 * 1_000_000
"""How long a request id is remembered."""


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A request that may come again."""

    request_id: str
    digest: bytes
    """SHA-256 of everything in the request but the secret field, of which it holds the length: a digest of a secret
    would let whoever reads the database try out what it may be."""


def repeatable(request: Message, call: Call, redacted: str = "") -> Repeatable | None:
    """The request's id and digest, or None when it has no id. `redacted` names its field of secret bytes.

    Ids are each caller's own: what stands in the database is made of the id and of who calls, so that the id of another
    principal's request is like one that was never used.

    Raises FIELD_INVALID for an id that is no UUID.
    """
    request_id: str = getattr(request, "request_id")  # noqa: B009  # of every request with an id
    if not request_id:
        return None
    if not is_uuid(request_id):
        raise invalid("request_id", "is not a UUID")
    public = type(request)()
    public.CopyFrom(request)
    public.ClearField("request_id")
    length = 0
    if redacted:
        length = len(getattr(request, redacted))
        public.ClearField(redacted)
        public.ClearField(f"{redacted}_crc32c")
    told = f"{request.DESCRIPTOR.full_name} {length} ".encode()
    return Repeatable(
        _of_caller(request_id, call), sha256(told + public.SerializeToString(deterministic=True)).digest()
    )


def _of_caller(request_id: str, call: Call) -> str:
    """The request id as this caller's alone; a role's is one of whoever assumed it."""
    whole = "\n".join((request_id.lower(), call.principal.name, *call.principal.scope.assumed_by))
    return str(UUID(bytes=sha256(whole.encode()).digest()[:16]))


def reused() -> StrongroomError:
    """A request id came with another request than before."""
    return StrongroomError(
        Reason.REQUEST_ID_REUSED, "request_id was used for another request before", field="request_id"
    )
