"""Audit events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from strongroom.audit.v1 import audit_service_pb2 as pb
from strongroom.audit.v1 import event_pb2
from strongroom.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from strongroom.calls.base import Part, pages
from strongroom.convert import enum_number, enum_text, moment, timestamp


@dataclass(frozen=True, slots=True)
class Event:
    """One use of the mesh. `outcome` is ALLOWED, DENIED or FAILED; `reason` says why unless it is ALLOWED.

    `principal`, `resource`, `key_version` and `secret_version` are full names; `source_address` has no port;
    `trace_id` is 32 hex digits. `item_count` is that of a batch, 1 otherwise, and `failed_item_count` says how many of
    its items have no result. `decided_by` names the policy or grant that decided. `credential` is what the caller was
    known by, `assumed_by` who assumed the role, `instance` the process that recorded it. `attributes` are further
    facts, such as `comment`; docs/audit.md lists them.
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
    secret_version: str
    credential: str
    assumed_by: str
    instance: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StreamedEvent:
    """An event as it came, and its index in the log.

    `resume_token` is what a later `stream` goes on with behind this event.
    """

    event: Event
    index: int
    resume_token: str


class Events(Part[AuditServiceStub]):
    """Reads audit events. `event` is an id (the `event_id` of a result or an error), or a full name."""

    def get(self, event: str, *, timeout: float | None = None) -> Event:
        """Answers one event. Raises EVENT_NOT_FOUND."""
        request = pb.GetEventRequest(name=self._names.event(event))
        return _event(self._service.call(self._service.stub.GetEvent, request, timeout).response)

    def list(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        principal: str = "",
        action: str = "",
        resource: str = "",
        outcome: str = "",
        trace_id: str = "",
        resource_version: str = "",
        session_name: str = "",
        text: str = "",
        archive: bool = False,
        oldest_first: bool = False,
        parent: str = "",
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Event]:
        """Lists the events that meet every condition given, newest first unless `oldest_first`.

        `since` is included, `until` is not; both need a time zone. `principal`, `resource` and `resource_version` (of
        a key or a secret) are full names or such as `keys/payments`, `action` is such as `crypto:Encrypt`. With
        `archive` the archive is searched too. `parent` is by default the client's account; `services/audit`
        has the events of no account. Pages are fetched as they are needed; `timeout` is for each page.
        """
        request = pb.LookupEventsRequest(
            parent=parent or self._names.account,
            principal=principal and self._names.recorded(principal, "principal"),
            action=action,
            resource=resource and self._names.recorded(resource, "resource"),
            outcome=enum_number(event_pb2.Outcome, "OUTCOME_", outcome, "outcome"),
            trace_id=trace_id,
            resource_version=resource_version and self._names.recorded(resource_version, "resource_version"),
            session_name=session_name,
            text=text,
            include_archive=archive,
            order=pb.EVENT_ORDER_OLDEST_FIRST if oldest_first else pb.EVENT_ORDER_NEWEST_FIRST,
        )
        if since is not None:
            request.start_time.CopyFrom(timestamp(since, "since"))
        if until is not None:
            request.end_time.CopyFrom(timestamp(until, "until"))

        def fetch(token: str, size: int) -> tuple[list[Event], str]:
            request.page_token, request.page_size = token, size
            page = self._service.call(self._service.stub.LookupEvents, request, timeout).response
            return [_event(event) for event in page.events], page.next_page_token

        return pages(fetch, limit)

    def stream(
        self,
        *,
        since: datetime | None = None,
        resume_token: str = "",
        principal: str = "",
        action: str = "",
        resource: str = "",
        outcome: str = "",
        text: str = "",
        parent: str = "",
        alive: Callable[[], None] = lambda: None,
    ) -> Iterator[StreamedEvent]:
        """Tells events as they come, in the order of the log, without an end.

        It begins at `since`, behind the event that `resume_token` came with, or now. It ends with an error when the
        service drains: begin again with the last token then. When the session or certificate that it began with ends,
        it goes on by itself with the next one; TOKEN_EXPIRED is raised where there is none. `principal` and `resource`
        are full names or such as `keys/payments`. `alive` is called with each answer, signs of life included.
        """
        request = pb.StreamEventsRequest(
            parent=parent or self._names.account,
            resume_token=resume_token,
            principal=principal and self._names.recorded(principal, "principal"),
            action=action,
            resource=resource and self._names.recorded(resource, "resource"),
            outcome=enum_number(event_pb2.Outcome, "OUTCOME_", outcome, "outcome"),
            text=text,
        )
        if since is not None:
            request.start_time.CopyFrom(timestamp(since, "since"))
        begun = datetime.now(UTC)

        def again(token: str) -> pb.StreamEventsRequest:
            request.resume_token = token
            if not token and since is None:
                request.start_time.CopyFrom(timestamp(begun, "since"))
            return request

        for response in self._service.stream(lambda stub: stub.StreamEvents, request, again):
            alive()
            if response.HasField("event"):
                yield StreamedEvent(_event(response.event), response.index, response.resume_token)


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
        secret_version=event.secret_version,
        credential=event.credential,
        assumed_by=event.assumed_by,
        instance=event.instance,
        attributes=dict(event.attributes),
    )
