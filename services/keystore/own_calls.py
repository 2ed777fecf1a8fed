"""Calls that keystore makes by itself, for nobody."""

from __future__ import annotations

from services.runtime.call import Call, Principal
from services.runtime.requests.names import ResourceName

SELF = Principal("services/keystore", "")


def own_call(method: str, resource: ResourceName) -> Call:
    """A call of KeyService by keystore itself, with the event that records it."""
    call = Call("strongroom.keystore.v1.KeyService", method, f"keystore:{method}", principal=SELF)
    call.record(call.action, str(resource), resource.account)
    return call
