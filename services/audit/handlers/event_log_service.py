"""`EventLogService`: where the mesh's services write their events."""

from __future__ import annotations

import re

from services.audit.logs.logs import Logs
from services.runtime import event_bounds, identifiers
from services.runtime.call import Call
from services.runtime.clock import system_clock
from services.runtime.errors import invalid, too_large
from services.runtime.event_bounds import MAX_APPEND_BYTES, MAX_APPEND_EVENTS
from services.runtime.telemetry import Telemetry
from strongroom.audit.v1.event_log_service_pb2 import AppendRequest, AppendResponse

_WELL_FORMED_ACCOUNT = re.compile(r"(?:[a-z][a-z0-9-]{0,62})?")


class EventLogService:
    """Handlers of the internal service."""

    def __init__(self, logs: Logs, telemetry: Telemetry) -> None:
        self._logs = logs
        self._telemetry = telemetry

    def Append(self, request: AppendRequest, call: Call) -> AppendResponse:
        """Answers when every event is durable; an empty request is a probe."""
        if not request.events:
            self._logs.check()
            return AppendResponse()
        if len(request.events) > MAX_APPEND_EVENTS:
            raise too_large("events", MAX_APPEND_EVENTS, "events")
        good = None
        for position, event in enumerate(request.events):
            if not identifiers.is_uuid(event.id):
                raise invalid(f"events[{position}].id", "is not a UUID")
            # Many of an account come together.
            if (account := event.account) != good and not _WELL_FORMED_ACCOUNT.fullmatch(account):
                raise invalid(f"events[{position}].account", "is not the id of an account")
            good = account
        # The log bounds each of them; few requests are so large that it matters here how large they are then.
        if request.ByteSize() > MAX_APPEND_BYTES and sum(map(event_bounds.bound, request.events)) > MAX_APPEND_BYTES:
            raise too_large("events", MAX_APPEND_BYTES)
        arrived_us = system_clock.now_us()
        indexes = self._logs.append(request.events, resent=request.resend)
        if request.traceparents:
            self._telemetry.record_remote(
                f"{call.service}/Append", request.traceparents, arrived_us, system_clock.now_us()
            )
        return AppendResponse(indexes=indexes)
