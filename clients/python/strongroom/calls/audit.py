"""Audit events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from strongroom.audit.v1 import audit_service_pb2 as pb
from strongroom.audit.v1 import event_pb2
from strongroom.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from strongroom.calls.base import Calls, pages
from strongroom.convert import enum_number, enum_text, moment, timestamp
from strongroom.transport import Endpoint


@dataclass(frozen=True, slots=True)
class Event:
    """One use of the mesh. `outcome` is ALLOWED, DENIED or FAILED; `reason` says why unless it is ALLOWED.

    `principal`, `resource` and `key_version` are full names; `source_address` has no port; `trace_id` is 32
    hex digits; `item_count` is that of a batch, 1 otherwise, and `failed_item_count` says how many of a batch's
    items have no result; `decided_by` names the policy or grant that decided; `attributes` are further facts, such
    as `comment`.
    """

    id: str
    time: datetime | None
    account: str
    principal: str
    session_name: str
    via_service: str
    source_address: str
    service: str
    method: str
    action: str
    resource: str
    key_version: str
    encryption_context: Mapping[str, str]
    outcome: str
    reason: str
    decided_by: str
    trace_id: str
    item_count: int
    failed_item_count: int
    attributes: Mapping[str, str]


class AuditCalls(Calls):
    """Methods that read the audit log. Each takes `timeout` in seconds and raises StrongroomError; the
    contract names the reasons (`protos/strongroom/audit/v1/audit_service.proto`).
    """

    @cached_property
    def _audit(self) -> Endpoint[AuditServiceStub]:
        return self._transport.endpoint("audit", AuditServiceStub)

    def get_event(self, event: str, *, timeout: float | None = None) -> Event:
        """One event, by its id (the `event_id` of a result or an error) or its full name. Raises
        EVENT_NOT_FOUND.
        """
        request = pb.GetEventRequest(name=self.names.event(event))
        return _event(self._audit.call(self._audit.stub.GetEvent, request, timeout).response)

    def lookup_events(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        principal: str = "",
        action: str = "",
        resource: str = "",
        outcome: str = "",
        trace_id: str = "",
        text: str = "",
        oldest_first: bool = False,
        parent: str = "",
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Event]:
        """The events that meet every condition given, newest first; pages are fetched as they are needed.

        `since` is included, `until` is not; both with a time zone. `principal` and `resource` are full names,
        `action` is such as `crypto:Encrypt`. `parent` is by default the client's account; `services/audit`
        has the events of no account. `timeout` is for each page.
        """
        request = pb.LookupEventsRequest(
            parent=parent or self.names.account,
            principal=principal,
            action=action,
            resource=resource,
            outcome=enum_number(event_pb2.Outcome, "OUTCOME_", outcome, "outcome"),
            trace_id=trace_id,
            text=text,
            order=pb.EVENT_ORDER_OLDEST_FIRST if oldest_first else pb.EVENT_ORDER_NEWEST_FIRST,
        )
        if since is not None:
            request.start_time.CopyFrom(timestamp(since, "since"))
        if until is not None:
            request.end_time.CopyFrom(timestamp(until, "until"))

        def fetch(token: str, size: int) -> tuple[list[Event], str]:
            request.page_token, request.page_size = token, size
            page = self._audit.call(self._audit.stub.LookupEvents, request, timeout).response
            return [_event(event) for event in page.events], page.next_page_token

        return pages(fetch, limit)


def _event(event: event_pb2.Event) -> Event:
    return Event(
        id=event.id,
        time=moment(event.time),
        account=event.account,
        principal=event.principal,
        session_name=event.session_name,
        via_service=event.via_service,
        source_address=event.source_address,
        service=event.service,
        method=event.method,
        action=event.action,
        resource=event.resource,
        key_version=event.key_version,
        encryption_context=dict(event.encryption_context),
        outcome=enum_text(event_pb2.Outcome, "OUTCOME_", event.outcome),
        reason=event.reason,
        decided_by=event.decided_by,
        trace_id=event.trace_id,
        item_count=event.item_count,
        failed_item_count=event.failed_item_count,
        attributes=dict(event.attributes),
    )
