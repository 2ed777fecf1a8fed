"""`AuditService`: reads requests, calls the domain, writes responses."""

from __future__ import annotations

from services.audit import page_tokens
from services.audit.events import Events, Filter, Period
from services.runtime import clock, names, paging
from services.runtime.authorization import Authorizer, Resource
from services.runtime.call import Call
from strongroom.audit.v1 import audit_service_pb2 as pb
from strongroom.audit.v1.event_pb2 import Event


class AuditService:
    """Handlers of the public service."""

    def __init__(self, events: Events, authorizer: Authorizer) -> None:
        self._events = events
        self._authorizer = authorizer

    def LookupEvents(self, request: pb.LookupEventsRequest, call: Call) -> pb.LookupEventsResponse:
        """A page of an account's events in order of time."""
        account = names.parse_account(request.parent, "parent")
        self._authorizer.authorize(call, "audit:LookupEvents", _log_of(account))
        events, next_position = self._events.page(
            account,
            _period(request),
            _filter(request),
            page_tokens.decode(request.parent, request.page_token),
            paging.page_size(request.page_size),
            newest_first=request.order != pb.EVENT_ORDER_OLDEST_FIRST,
        )
        return pb.LookupEventsResponse(events=events, next_page_token=page_tokens.encode(request.parent, next_position))

    def GetEvent(self, request: pb.GetEventRequest, call: Call) -> Event:
        """One event of an account."""
        name = names.parse(request.name, "name", "events")
        self._authorizer.authorize(call, "audit:GetEvent", _log_of(name.account))
        return self._events.get(name.account, name.id)


def _log_of(account: str) -> Resource:
    return Resource("Log", f"accounts/{account}/log", account)


def _period(request: pb.LookupEventsRequest) -> Period:
    return Period(
        clock.microseconds(request.start_time) if request.HasField("start_time") else None,
        clock.microseconds(request.end_time) if request.HasField("end_time") else None,
    )


def _filter(request: pb.LookupEventsRequest) -> Filter:
    """Every condition that is set has to hold."""
    text = request.text.casefold()

    def wanted(event: Event) -> bool:
        return (
            (not request.principal or event.principal == request.principal)
            and (not request.session_name or event.session_name == request.session_name)
            and (not request.action or event.action == request.action)
            and (not request.resource or event.resource == request.resource)
            and (not request.resource_version or request.resource_version in (event.key_version, event.secret_version))
            and (not request.trace_id or event.trace_id == request.trace_id)
            and (not request.outcome or event.outcome == request.outcome)
            and (not text or text in str(event).casefold())
        )

    return wanted
