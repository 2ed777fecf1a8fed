"""`AuditService`: reads requests, calls the domain, writes responses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from services.audit.handlers import messages
from services.audit.keys.sealing import DAY_US
from services.audit.logs.logs import Logs
from services.audit.logs.streaming import Place, Tail, Tails, place_of
from services.audit.reading import page_tokens
from services.audit.reading.events import Events, Period, Query
from services.audit.reading.transparency import LONGEST_WAIT_SECONDS
from services.audit.reading.usage import DEFAULT_DIMENSIONS, DIMENSIONS, Reports, counted
from services.audit.retention.retention import DEFAULT_ARCHIVE_DAYS, HOLD_PATHS, POLICY_PATHS
from services.audit.retention.store import LegalHold, RetentionPolicy
from services.runtime import clock
from services.runtime.access.authorization import Authorizer, Resource
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError, invalid, required
from services.runtime.requests import filters, names, paging
from services.runtime.requests.fields import changed_paths, check_text
from services.runtime.rpc.streams import Stream
from strongroom.audit.v1 import audit_service_pb2 as pb
from strongroom.audit.v1 import log_pb2, retention_pb2
from strongroom.audit.v1.event_pb2 import Event

OWN = "services/audit"

_MAX_TEXT = 256
_MAX_COSIGNATURES = 16
_DAY_SECONDS = 86_400
# Of the time a caller gives, what making the proof and recording the call takes at most.
_ANSWER_SECONDS = 0.25
_POLICY = "/retentionPolicy"
_HOLD = "/legalHold"
_LONGEST_REPORT_US = 400 * DAY_US


class AuditService:
    """Handlers of the public service. `mesh_account` is the account whose business `services/audit` is."""

    def __init__(self, logs: Logs, authorizer: Authorizer, mesh_account: str, tails: Tails) -> None:
        self._logs = logs
        self._authorizer = authorizer
        self._mesh_account = mesh_account
        self._tails = tails
        self._reports = Reports()

    def LookupEvents(self, request: pb.LookupEventsRequest, call: Call) -> pb.LookupEventsResponse:
        """A page of an account's events in order of time."""
        account = self._authorized_parent(call, "audit:LookupEvents", request.parent)
        listed = page_tokens.listed(request, "page_token", "page_size")
        query = Query(
            account=account,
            principal=request.principal,
            action=request.action,
            resource=request.resource,
            resource_version=request.resource_version,
            session_name=request.session_name,
            trace_id=request.trace_id,
            outcome=request.outcome,
            text=check_text(request.text, "text", _MAX_TEXT),
        )
        events, next_position = self._events(account).page(
            query,
            Period(_time_us(request, "start_time"), _time_us(request, "end_time")),
            page_tokens.decode(listed, request.page_token),
            paging.page_size(request.page_size),
            newest_first=request.order != pb.EVENT_ORDER_OLDEST_FIRST,
            archive=request.include_archive,
        )
        return pb.LookupEventsResponse(events=events, next_page_token=page_tokens.encode(listed, next_position))

    def StreamEvents(self, request: pb.StreamEventsRequest, call: Call) -> Callable[[Stream], None]:
        """An account's events as they come."""
        action = "audit:StreamEvents"
        account = self._authorized_parent(call, action, request.parent)
        listed = page_tokens.listed(request, "resume_token", "start_time")
        source = self._logs.of_account(account)
        start_us = _time_us(request, "start_time")
        if request.resume_token:
            place = place_of(listed, request.resume_token)
        elif start_us is None:
            place = Place(source.log.size, 0)
        else:
            place = Place(source.events.first_at(start_us), start_us)
        query = Query(
            account=account,
            principal=request.principal,
            action=request.action,
            resource=request.resource,
            outcome=request.outcome,
            text=check_text(request.text, "text", _MAX_TEXT),
        )

        def still_permitted() -> None:
            self._authorizer.admit(call)
            # A call of its own: looking again is no further use.
            self._authorized_parent(replace(call, events=[]), action, request.parent)

        return self._tails.begin(Tail(source, query, listed, place, still_permitted), call.principal)

    def ReportUsage(self, request: pb.ReportUsageRequest, call: Call) -> pb.ReportUsageResponse:
        """A page of a report of an account's use."""
        account = self._authorized_parent(call, "audit:ReportUsage", request.parent)
        start_us, end_us = _time_us(request, "start_time"), _time_us(request, "end_time")
        if start_us is None:
            raise required("start_time")
        if end_us is None:
            end_us = call.time_us
        if not 0 <= end_us - start_us <= _LONGEST_REPORT_US:
            raise invalid("end_time", "is not up to 400 days after start_time")
        dimensions = request.dimensions or DEFAULT_DIMENSIONS
        if not DIMENSIONS.issuperset(dimensions) or len(set(dimensions)) < len(dimensions):
            raise invalid("dimensions", "names one that is not known, or one twice")
        query = Query(
            account=account,
            principal=request.principal,
            action=request.action,
            resource=request.resource,
            resource_version=request.resource_version,
            outcome=request.outcome,
        )
        listed = page_tokens.listed(request, "page_token", "page_size")
        first = paging.decode_number(listed, request.page_token, 0)
        report = self._reports.get(
            listed,
            lambda: counted(self._events(account), query, Period(start_us, end_us), dimensions),
            anew=first == 0,
        )
        behind = first + paging.page_size(request.page_size)
        return pb.ReportUsageResponse(
            rows=map(messages.usage_row, report.rows[first:behind]),
            next_page_token=paging.encode(listed, str(behind)) if behind < len(report.rows) else "",
            shredded_event_count=report.unread.shredded,
            unreadable_event_count=report.unread.refused,
        )

    def GetEvent(self, request: pb.GetEventRequest, call: Call) -> Event:
        """One event of an account."""
        account, event_id = self._authorized_event(call, "audit:GetEvent", request.name)
        return self._events(account).get(account, event_id)

    def GetInclusionProof(self, request: pb.GetInclusionProofRequest, call: Call) -> log_pb2.InclusionProof:
        """That an event is in its log."""
        account, event_id = self._authorized_event(call, "audit:GetInclusionProof", request.name)
        log = self._logs.of_account(account)
        tree_size = _not_negative(request.tree_size, "tree_size")
        found = log.transparency.inclusion(account, event_id, tree_size, _patience_seconds(call))
        return messages.inclusion(log, found)

    def GetConsistencyProof(self, request: pb.GetConsistencyProofRequest, call: Call) -> log_pb2.ConsistencyProof:
        """That a log only grew."""
        self._authorize_anyone(call, "audit:GetConsistencyProof")
        log = self._logs.named(request.log)
        if not request.from_size:
            raise required("from_size")
        from_size = _not_negative(request.from_size, "from_size")
        to_size = _not_negative(request.to_size, "to_size")
        return messages.consistency(log, log.transparency.consistency(from_size, to_size))

    def GetCheckpoint(self, request: pb.GetCheckpointRequest, call: Call) -> log_pb2.Checkpoint:
        """The newest checkpoint of a log."""
        self._authorize_anyone(call, "audit:GetCheckpoint")
        log = self._logs.named(request.log)
        found = log.transparency.checkpoint(include_unpublished=request.include_unpublished)
        return messages.checkpoint(log, found)

    def GetTile(self, request: pb.GetTileRequest, call: Call) -> pb.GetTileResponse:
        """A tile or entry bundle of a log."""
        self._authorize_anyone(call, "audit:GetTile")
        log = self._logs.named(request.log)
        if not request.path:
            raise required("path")
        return pb.GetTileResponse(data=log.transparency.tile(request.path))

    def GetLog(self, request: pb.GetLogRequest, call: Call) -> log_pb2.Log:
        """A log as it stands."""
        self._authorize_anyone(call, "audit:GetLog")
        if not request.name:
            raise required("name")
        return messages.log_message(self._logs.named(request.name, "name"))

    def ListLogs(self, request: pb.ListLogsRequest, call: Call) -> pb.ListLogsResponse:
        """Every log, all on one page; with a filter that of one account."""
        self._authorize_anyone(call, "audit:ListLogs")
        paging.page_size(request.page_size)
        paging.decode("logs", request.page_token)
        wanted = {self._logs.of_account(term.value).name for term in filters.parse(request.filter, ("account",))}
        logs = [log for log in self._logs if not request.filter or {log.name} == wanted]
        return pb.ListLogsResponse(logs=[messages.log_message(log) for log in logs])

    def AddCosignatures(self, request: pb.AddCosignaturesRequest, call: Call) -> log_pb2.Checkpoint:
        """A witness's cosignatures, brought by itself."""
        self._authorizer.authorize(call, "audit:AddCosignatures", Resource("Service", OWN, self._mesh_account))
        log = self._logs.named(request.log)
        if not request.tree_size:
            raise required("tree_size")
        if not 1 <= len(request.cosignatures) <= _MAX_COSIGNATURES:
            raise invalid("cosignatures", f"has not 1 to {_MAX_COSIGNATURES} lines")
        return messages.checkpoint(log, log.witnesses.add(call, request.tree_size, request.cosignatures))

    def ShredAccountEvents(self, request: pb.ShredAccountEventsRequest, call: Call) -> pb.ShredAccountEventsResponse:
        """An account's events, made unreadable."""
        account = names.parse_account(request.name, "name")
        event = self._authorizer.authorize(call, "audit:ShredAccountEvents", _log_of(account))
        if not request.comment:
            raise required("comment")
        event.attributes["comment"] = check_text(request.comment, "comment", _MAX_TEXT)
        if request.confirmation != account:
            raise StrongroomError(
                Reason.CONFIRMATION_MISMATCH, "confirmation is not the account's id", field="confirmation"
            )
        if request.validate_only:
            event.attributes["validate_only"] = "true"
        shredded = self._logs.of_account(account).retention.shred(
            call, account, _time_us(request, "before_time"), validate_only=request.validate_only
        )
        return pb.ShredAccountEventsResponse(event_count=shredded.event_count, sealing_key_count=shredded.key_count)

    def GetRetentionPolicy(self, request: pb.GetRetentionPolicyRequest, call: Call) -> retention_pb2.RetentionPolicy:
        """How long an account's events are kept."""
        account = self._authorized_single(call, "audit:GetRetentionPolicy", request.name, "name", _POLICY)
        return messages.retention_policy(self._logs.of_account(account).retention.policy(account))

    def UpdateRetentionPolicy(
        self, request: pb.UpdateRetentionPolicyRequest, call: Call
    ) -> retention_pb2.RetentionPolicy:
        """A change of that."""
        wanted, action = request.retention_policy, "audit:UpdateRetentionPolicy"
        account = self._authorized_single(call, action, wanted.name, "retention_policy.name", _POLICY)
        paths = changed_paths(request.update_mask, POLICY_PATHS)
        retention = self._logs.of_account(account).retention
        archive_after = wanted.HasField("archive_after") and "archive_after" in paths
        shred_after = wanted.HasField("shred_after") and "shred_after" in paths
        policy = RetentionPolicy(
            account,
            _days(wanted.archive_after, "archive_after") if archive_after else DEFAULT_ARCHIVE_DAYS,
            _days(wanted.shred_after, "shred_after") if shred_after else 0,
        )
        return messages.retention_policy(retention.update_policy(call, policy, paths, wanted.etag))

    def GetLegalHold(self, request: pb.GetLegalHoldRequest, call: Call) -> retention_pb2.LegalHold:
        """Whether an account's events have to stay readable."""
        account = self._authorized_single(call, "audit:GetLegalHold", request.name, "name", _HOLD)
        return messages.legal_hold(self._logs.of_account(account).retention.hold(account))

    def UpdateLegalHold(self, request: pb.UpdateLegalHoldRequest, call: Call) -> retention_pb2.LegalHold:
        """A change of that."""
        wanted = request.legal_hold
        account = self._authorized_single(call, "audit:UpdateLegalHold", wanted.name, "legal_hold.name", _HOLD)
        paths = changed_paths(request.update_mask, HOLD_PATHS)
        reason = check_text(wanted.reason, "legal_hold.reason", _MAX_TEXT)
        hold = LegalHold(account, wanted.active, reason, call.principal.name)
        return messages.legal_hold(self._logs.of_account(account).retention.update_hold(call, hold, paths, wanted.etag))

    def _authorized_single(self, call: Call, action: str, name: str, field: str, suffix: str) -> str:
        """The account that `accounts/{account}/…` of something that each has once names."""
        if not name:
            raise required(field)
        if not name.endswith(suffix):
            raise StrongroomError(
                Reason.NAME_MALFORMED, f"{field} is not of the form accounts/{{account}}{suffix}", field=field
            )
        account = names.parse_account(name.removesuffix(suffix), field)
        self._authorizer.authorize(call, action, _log_of(account))
        return account

    def _events(self, account: str) -> Events:
        return self._logs.of_account(account).events

    def _authorize_anyone(self, call: Call, action: str) -> None:
        """What a log shows of itself tells nothing of events: each account permits its own principals to read it."""
        self._authorizer.authorize(call, action, Resource("Service", OWN, call.principal.account))

    def _authorized_parent(self, call: Call, action: str, parent: str) -> str:
        """The account whose events are asked for; empty for those of no account."""
        if parent == OWN:
            self._authorizer.authorize(call, action, Resource("Service", OWN, self._mesh_account))
            return ""
        account = names.parse_account(parent, "parent")
        self._authorizer.authorize(call, action, _log_of(account))
        return account

    def _authorized_event(self, call: Call, action: str, name: str) -> tuple[str, str]:
        parsed = names.parse(name, "name", "events")
        self._authorizer.authorize(call, action, _log_of(parsed.account))
        return parsed.account, parsed.id


def _log_of(account: str) -> Resource:
    return Resource("Log", f"accounts/{account}/log", account)


def _time_us(request: Message, field: str) -> int | None:
    return clock.microseconds(getattr(request, field)) if request.HasField(field) else None


def _patience_seconds(call: Call) -> float:
    """How long a call may wait and still answer before its caller is gone."""
    left = call.seconds_left()
    return LONGEST_WAIT_SECONDS if left is None else min(max(left - _ANSWER_SECONDS, 0.0), LONGEST_WAIT_SECONDS)


def _days(duration: Duration, field: str) -> int:
    days, rest = divmod(duration.seconds, _DAY_SECONDS)
    if rest or duration.nanos or days <= 0:
        raise invalid(f"retention_policy.{field}", "is not whole days")
    return days


def _not_negative(size: int, field: str) -> int:
    if size < 0:
        raise invalid(field, "is negative")
    return size
