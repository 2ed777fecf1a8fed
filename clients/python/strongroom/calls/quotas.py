"""Quotas: how many requests are let through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from google.protobuf.field_mask_pb2 import FieldMask

from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import principal_pb2
from strongroom.calls.accounts import AccountCalls
from strongroom.calls.base import pages
from strongroom.convert import moment
from strongroom.transport import Answer


@dataclass(frozen=True, slots=True)
class Quota:
    """How many requests are let through, in each worker process of each service; None is no limit. `overridden` says
    that it was set, rather than what the configuration gives. `event_id` is the audit event of the call that answered
    it; empty in lists."""

    name: str
    requests_per_second: float | None
    burst: int
    default_principal_requests_per_second: float | None
    overridden: bool
    update_time: datetime | None
    etag: str
    event_id: str = ""


class QuotaCalls(AccountCalls):
    """Methods that keep quotas. `target` is `users/{id}`, `workloads/{id}`, `roles/{id}` or a full name such as
    `accounts/{account}`; by default the client's own account. An account's own quota is for administrators of the
    mesh."""

    def get_quota(self, target: str = "", *, timeout: float | None = None) -> Quota:
        """The quota that holds, also where none was set."""
        request = pb.GetQuotaRequest(name=self._quota_name(target))
        return _answered(self._access.call(self._access.stub.GetQuota, request, timeout))

    def list_quotas(self, *, limit: int | None = None, timeout: float | None = None) -> Iterator[Quota]:
        """The quotas that were set in the account: its own first, then by principal."""

        def fetch(token: str, size: int) -> tuple[list[Quota], str]:
            request = pb.ListQuotasRequest(parent=self.names.account, page_size=size, page_token=token)
            answer = self._access.call(self._access.stub.ListQuotas, request, timeout).response
            return [_quota(quota) for quota in answer.quotas], answer.next_page_token

        return pages(fetch, limit)

    def set_quota(
        self,
        target: str = "",
        *,
        requests_per_second: float | None = None,
        burst: int = 0,
        default_principal_requests_per_second: float | None = None,
        etag: str = "",
        timeout: float | None = None,
    ) -> Quota:
        """Sets a quota as a whole: what is not given is no limit, and for `burst` two seconds' worth. The default for
        principals is for accounts alone. With an etag, only if it is still current: ETAG_MISMATCH."""
        wanted = principal_pb2.Quota(
            name=self._quota_name(target),
            requests_per_second=requests_per_second,
            burst=burst,
            default_principal_requests_per_second=default_principal_requests_per_second,
            etag=etag,
        )
        request = pb.UpdateQuotaRequest(quota=wanted, update_mask=FieldMask())
        return _answered(self._access.call(self._access.stub.UpdateQuota, request, timeout))

    def reset_quota(self, target: str = "", *, timeout: float | None = None) -> Quota:
        """Takes back what `set_quota` set; answers what holds now."""
        request = pb.ResetQuotaRequest(name=self._quota_name(target))
        return _answered(self._access.call(self._access.stub.ResetQuota, request, timeout))

    def _quota_name(self, target: str) -> str:
        return f"{self.names.principal(target) if target else self.names.account}/quota"


def _answered(answer: Answer[principal_pb2.Quota]) -> Quota:
    return _quota(answer.response, answer.event_id)


def _quota(quota: principal_pb2.Quota, event_id: str = "") -> Quota:
    limits = quota.HasField("requests_per_second"), quota.HasField("default_principal_requests_per_second")
    return Quota(
        name=quota.name,
        requests_per_second=quota.requests_per_second if limits[0] else None,
        burst=quota.burst,
        default_principal_requests_per_second=quota.default_principal_requests_per_second if limits[1] else None,
        overridden=quota.overridden,
        update_time=moment(quota.update_time),
        etag=quota.etag,
        event_id=event_id,
    )
