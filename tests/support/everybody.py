"""An authorizer for tests of what comes after permission."""

from __future__ import annotations

from services.runtime.access.authorization import Resource
from services.runtime.call import Call
from strongroom.audit.v1.event_pb2 import Event


class Everybody:
    """Permits everything, and records it."""

    def authorize(self, call: Call, action: str, resource: Resource) -> Event:
        return call.record(action, resource.name, resource.account)

    def catch_up(self) -> None:
        pass

    def admit(self, call: Call) -> None:
        call.permitted = True
