"""Audit events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from strongroom.audit.v1 import audit_service_pb2 as pb
from strongroom.audit.v1 import event_pb2
from strongroom.calls.base import pages
from strongroom.calls.retention import RetentionCalls
from strongroom.convert import enum_number, enum_text, moment, timestamp


@dataclass(frozen=True, slots=True)
class Event:
    """One use of the mesh. `outcome` is ALLOWED, DENIED or FAILED; `reason` says why unless it is ALLOWED.

    `principal`, `resource`, `key_version` and `secret_version` are full names; `source_address` has no port;
    `trace_id` is 32 hex digits; `item_count` is that of a batch, 1 otherwise, and `failed_item_count` says how
    many of a batch's items have no result; `decided_by` names the policy or grant that decided. `credential` is
    what the caller was known by, `assumed_by` who assumed the role, `instance` the process that recorded it.
    `attributes` are further facts, such as `comment`. docs/audit.md tells more of each.
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
    """An event of a tail, its place in the log, and what `stream_events` goes on with behind it."""

    event: Event
    index: int
    resume_token: str


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Uses that have the same values, one for each dimension that was asked for."""

    values: Sequence[str]
    event_count: int
    item_count: int
    first_time: datetime | None
    last_time: datetime | None


class UsageReport(Iterator[UsageRow]):
    """The rows of a report, whose pages are fetched as they are needed."""

    def __init__(self) -> None:
        self.rows: Iterator[UsageRow] = iter(())
        self.shredded_event_count = 0
        """Events of the period that are in no row since they were made unreadable; known with the first row."""
        self.unreadable_event_count = 0
        """Those that nobody made unreadable: audit's database was tampered with or damaged."""

    def __next__(self) -> UsageRow:
        return next(self.rows)


class AuditCalls(RetentionCalls):
    """Methods that read the audit log. Each takes `timeout` in seconds and raises StrongroomError; the
    contract names the reasons (`protos/strongroom/audit/v1/audit_service.proto`).
    """

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
        resource_version: str = "",
        session_name: str = "",
        text: str = "",
        archive: bool = False,
        oldest_first: bool = False,
        parent: str = "",
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Event]:
        """The events that meet every condition given, newest first; pages are fetched as they are needed.

        `since` is included, `until` is not; both with a time zone. `principal`, `resource` and
        `resource_version`, which is a key's or a secret's, are full names, `action` is such as `crypto:Encrypt`.
        With `archive` it looks into the archive too. `parent` is by default the client's account;
        `services/audit` has the events of no account. `timeout` is for each page.
        """
        request = pb.LookupEventsRequest(
            parent=parent or self.names.account,
            principal=principal,
            action=action,
            resource=resource,
            outcome=enum_number(event_pb2.Outcome, "OUTCOME_", outcome, "outcome"),
            trace_id=trace_id,
            resource_version=resource_version,
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
            page = self._audit.call(self._audit.stub.LookupEvents, request, timeout).response
            return [_event(event) for event in page.events], page.next_page_token

        return pages(fetch, limit)

    def stream_events(
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
    ) -> Iterator[StreamedEvent]:
        """Events as they come, in order of the log, without an end: from `since`, from behind what `resume_token` came
        with, or from now on. Ends with an error when the service drains; begin again with the last token then.
        """
        request = pb.StreamEventsRequest(
            parent=parent or self.names.account,
            resume_token=resume_token,
            principal=principal,
            action=action,
            resource=resource,
            outcome=enum_number(event_pb2.Outcome, "OUTCOME_", outcome, "outcome"),
            text=text,
        )
        if since is not None:
            request.start_time.CopyFrom(timestamp(since, "since"))
        for response in self._audit.stream(self._audit.stub.StreamEvents, request):
            if response.HasField("event"):
                yield StreamedEvent(_event(response.event), response.index, response.resume_token)

    def report_usage(
        self,
        since: datetime,
        *,
        until: datetime | None = None,
        by: Sequence[str] = (),
        principal: str = "",
        action: str = "",
        resource: str = "",
        outcome: str = "",
        parent: str = "",
        timeout: float | None = None,
    ) -> UsageReport:
        """Events of up to 400 days counted `by` RESOURCE, PRINCIPAL, ACTION, OUTCOME, VERSION, HOUR or DAY; by default
        the first two and the outcome. `timeout` is for each page.
        """
        dimensions = [enum_number(pb.UsageDimension, "USAGE_DIMENSION_", one, "by") for one in by]
        request = pb.ReportUsageRequest(
            parent=parent or self.names.account,
            start_time=timestamp(since, "since"),
            dimensions=dimensions,
            principal=principal,
            action=action,
            resource=resource,
            outcome=enum_number(event_pb2.Outcome, "OUTCOME_", outcome, "outcome"),
        )
        if until is not None:
            request.end_time.CopyFrom(timestamp(until, "until"))

        report = UsageReport()

        def fetch(token: str, size: int) -> tuple[list[UsageRow], str]:
            request.page_token, request.page_size = token, size
            page = self._audit.call(self._audit.stub.ReportUsage, request, timeout).response
            report.shredded_event_count = page.shredded_event_count
            report.unreadable_event_count = page.unreadable_event_count
            return [_usage_row(row) for row in page.rows], page.next_page_token

        report.rows = pages(fetch, None)
        return report


def _usage_row(row: pb.UsageRow) -> UsageRow:
    return UsageRow(
        values=list(row.values),
        event_count=row.event_count,
        item_count=row.item_count,
        first_time=moment(row.first_time),
        last_time=moment(row.last_time),
    )


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
