"""The audit log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Self

from strongroom.audit.v1 import audit_service_pb2 as pb
from strongroom.audit.v1 import event_pb2
from strongroom.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from strongroom.calls.audit.usage import UsageReport, UsageRow, row_of
from strongroom.calls.base import Part, pages
from strongroom.convert import enum_number, timestamp
from strongroom.names import Names
from strongroom.transport import Transport

if TYPE_CHECKING:
    from strongroom.calls.audit.events import Events
    from strongroom.calls.audit.logs import Logs
    from strongroom.calls.audit.retention import Retention


class Audit(Part[AuditServiceStub]):
    """What was done with the mesh, by whom, and how that is proved."""

    @classmethod
    def of(cls, transport: Transport, names: Names) -> Self:
        """The audit log of the mesh that `transport` connects to."""
        return cls(transport.endpoint("audit", AuditServiceStub), names)

    @cached_property
    def events(self) -> Events:
        """Audit events: one, those that meet conditions, or as they come."""
        from strongroom.calls.audit.events import Events

        return Events(self._service, self._names)

    @cached_property
    def logs(self) -> Logs:
        """The transparency logs that events are in: checkpoints, tiles and proofs."""
        from strongroom.calls.audit.logs import Logs

        return Logs(self._service, self._names)

    @cached_property
    def retention(self) -> Retention:
        """How long events are kept, and what keeps them."""
        from strongroom.calls.audit.retention import Retention

        return Retention(self._service, self._names)

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
        """Counts the events of up to 400 days, by the dimensions that are asked for.

        `by` names RESOURCE, PRINCIPAL, ACTION, OUTCOME, VERSION, HOUR or DAY; by default RESOURCE, PRINCIPAL and
        OUTCOME. `since` is included, `until` is not; both need a time zone. `principal` and `resource`
        are full names or such as `keys/payments`. `timeout` is for each page.
        """
        dimensions = [enum_number(pb.UsageDimension, "USAGE_DIMENSION_", one, "by") for one in by]
        request = pb.ReportUsageRequest(
            parent=parent or self._names.account,
            start_time=timestamp(since, "since"),
            dimensions=dimensions,
            principal=principal and self._names.recorded(principal, "principal"),
            action=action,
            resource=resource and self._names.recorded(resource, "resource"),
            outcome=enum_number(event_pb2.Outcome, "OUTCOME_", outcome, "outcome"),
        )
        if until is not None:
            request.end_time.CopyFrom(timestamp(until, "until"))

        report = UsageReport()

        def fetch(token: str, size: int) -> tuple[list[UsageRow], str]:
            request.page_token, request.page_size = token, size
            page = self._service.call(self._service.stub.ReportUsage, request, timeout).response
            report.shredded_event_count = page.shredded_event_count
            report.unreadable_event_count = page.unreadable_event_count
            return [row_of(row) for row in page.rows], page.next_page_token

        report.rows = pages(fetch, None)
        return report
