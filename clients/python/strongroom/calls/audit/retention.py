"""How long an account's events are kept, and what keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from google.protobuf.field_mask_pb2 import FieldMask

from strongroom.audit.v1 import audit_service_pb2 as pb
from strongroom.audit.v1 import retention_pb2
from strongroom.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from strongroom.calls.base import Part
from strongroom.convert import duration, moment, span, timestamp


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """When events leave the index for the archive, and when they become unreadable: never for None."""

    name: str
    archive_after: timedelta
    shred_after: timedelta | None
    update_time: datetime | None
    etag: str


@dataclass(frozen=True, slots=True)
class LegalHold:
    """While it is active, none of the account's events can be made unreadable."""

    name: str
    active: bool
    reason: str
    changed_by: str
    update_time: datetime | None
    etag: str


@dataclass(frozen=True, slots=True)
class Shredded:
    """How many events are unreadable from now on, and how many keys were destroyed for it."""

    event_count: int
    sealing_key_count: int


class Retention(Part[AuditServiceStub]):
    """Decides on an account's events as a whole; `account` is a full name, by default the client's own."""

    def shred_events(
        self,
        confirmation: str,
        comment: str,
        *,
        before: datetime | None = None,
        validate_only: bool = False,
        account: str = "",
        timeout: float | None = None,
    ) -> Shredded:
        """Makes events unreadable for good: all, or those of days (UTC) that ended before a time.

        `confirmation` is the account's id, and `comment` says why. With `validate_only` it only counts. Raises
        CONFIRMATION_MISMATCH, LEGAL_HOLD.
        """
        request = pb.ShredAccountEventsRequest(
            name=account or self._names.account,
            confirmation=confirmation,
            comment=comment,
            validate_only=validate_only,
        )
        if before is not None:
            request.before_time.CopyFrom(timestamp(before, "before"))
        done = self._service.call(self._service.stub.ShredAccountEvents, request, timeout).response
        return Shredded(done.event_count, done.sealing_key_count)

    def get_policy(self, *, account: str = "", timeout: float | None = None) -> RetentionPolicy:
        """Answers the account's retention policy, also where none was set."""
        request = pb.GetRetentionPolicyRequest(name=f"{account or self._names.account}/retentionPolicy")
        return _policy(self._service.call(self._service.stub.GetRetentionPolicy, request, timeout).response)

    def update_policy(
        self,
        *,
        archive_after: timedelta | None = None,
        shred_after: timedelta | None = None,
        never_shred: bool = False,
        etag: str = "",
        account: str = "",
        timeout: float | None = None,
    ) -> RetentionPolicy:
        """Changes what is given of the retention policy, in whole days; `never_shred` takes back `shred_after`.

        With an `etag`, it is changed only if that is still current: ETAG_MISMATCH. Raises LEGAL_HOLD, FIELD_INVALID.
        """
        wanted = retention_pb2.RetentionPolicy(name=f"{account or self._names.account}/retentionPolicy", etag=etag)
        paths = []
        if archive_after is not None:
            wanted.archive_after.CopyFrom(duration(archive_after))
            paths.append("archive_after")
        if shred_after is not None or never_shred:
            paths.append("shred_after")
        if shred_after is not None:
            wanted.shred_after.CopyFrom(duration(shred_after))
        request = pb.UpdateRetentionPolicyRequest(retention_policy=wanted, update_mask=FieldMask(paths=paths))
        return _policy(self._service.call(self._service.stub.UpdateRetentionPolicy, request, timeout).response)

    def get_legal_hold(self, *, account: str = "", timeout: float | None = None) -> LegalHold:
        """Answers the account's legal hold, also where none is in force."""
        request = pb.GetLegalHoldRequest(name=f"{account or self._names.account}/legalHold")
        return _hold(self._service.call(self._service.stub.GetLegalHold, request, timeout).response)

    def update_legal_hold(
        self, active: bool, reason: str = "", *, etag: str = "", account: str = "", timeout: float | None = None
    ) -> LegalHold:
        """Puts a legal hold in force, for which a reason is required, or lifts it. Raises ETAG_MISMATCH."""
        wanted = retention_pb2.LegalHold(
            name=f"{account or self._names.account}/legalHold", active=active, reason=reason, etag=etag
        )
        paths = ["active", "reason"] if reason else ["active"]
        request = pb.UpdateLegalHoldRequest(legal_hold=wanted, update_mask=FieldMask(paths=paths))
        return _hold(self._service.call(self._service.stub.UpdateLegalHold, request, timeout).response)


def _policy(policy: retention_pb2.RetentionPolicy) -> RetentionPolicy:
    return RetentionPolicy(
        name=policy.name,
        archive_after=span(policy.archive_after),
        shred_after=span(policy.shred_after) if policy.HasField("shred_after") else None,
        update_time=moment(policy.update_time),
        etag=policy.etag,
    )


def _hold(hold: retention_pb2.LegalHold) -> LegalHold:
    return LegalHold(
        name=hold.name,
        active=hold.active,
        reason=hold.reason,
        changed_by=hold.changed_by,
        update_time=moment(hold.update_time),
        etag=hold.etag,
    )
