"""Calls that the secrets service makes by itself, for nobody."""

from __future__ import annotations

from services.runtime.call import Call, Principal
from services.runtime.requests.names import ResourceName

SELF = Principal("services/secrets", "")


def own_call(method: str, resource: ResourceName) -> Call:
    """A call of SecretService by the service itself, with the event that records it."""
    call = unrecorded_call(method)
    call.record(call.action, str(resource), resource.account)
    return call


def unrecorded_call(method: str) -> Call:
    """A call by the service itself that crypto alone records: the use of a key on the service's own behalf."""
    return Call("strongroom.secrets.v1.SecretService", method, f"secrets:{method}", principal=SELF)
