"""`EventLogService`: where the mesh's services write their events."""

from __future__ import annotations

import time

from services.audit.logs import Logs
from services.runtime import identifiers
from services.runtime.call import Call
from services.runtime.errors import invalid, too_large
from services.runtime.telemetry import Telemetry
from strongroom.audit.v1.event_log_service_pb2 import AppendRequest, AppendResponse

_MAX_EVENTS = 4096


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
        if len(request.events) > _MAX_EVENTS:
            raise too_large("events", _MAX_EVENTS, "events")
        for position, event in enumerate(request.events):
            if not identifiers.is_uuid(event.id):
                raise invalid(f"events[{position}].id", "is not a UUID")
        arrived = time.time_ns()
        indexes = self._logs.append(request.events, resent=request.resend)
        if request.traceparents:
            self._telemetry.record_remote(f"{call.service}/Append", request.traceparents, arrived, time.time_ns())
        return AppendResponse(indexes=indexes)
