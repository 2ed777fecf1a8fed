"""Quotas: how many requests are let through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from google.protobuf.field_mask_pb2 import FieldMask

from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import principal_pb2
from strongroom.access.v1.access_service_pb2_grpc import AccessServiceStub
from strongroom.calls.base import Part, pages
from strongroom.convert import moment
from strongroom.transport import Answer


@dataclass(frozen=True, slots=True)
class Quota:
    """How many requests are let through, in each worker process of each service; None is no limit.

    `overridden` says that it was set, rather than what the configuration gives. `event_id` is the id of the audit
    event of the call that answered it; it is empty in lists.
    """

    name: str
    requests_per_second: float | None
    burst: int
    default_principal_requests_per_second: float | None
    overridden: bool
    update_time: datetime | None
    etag: str
    event_id: str = ""


class Quotas(Part[AccessServiceStub]):
    """Keeps quotas. An account's own quota is for administrators of the mesh.

    `target` is `users/{id}`, `workloads/{id}`, `roles/{id}` or a full name such as `accounts/{account}`; by default it
    is the client's own account.
    """

    def get(self, target: str = "", *, timeout: float | None = None) -> Quota:
        """Answers the quota that holds, also where none was set."""
        request = pb.GetQuotaRequest(name=self._quota_name(target))
        return _answered(self._service.call(self._service.stub.GetQuota, request, timeout))

    def list(self, *, limit: int | None = None, timeout: float | None = None) -> Iterator[Quota]:
        """Lists the quotas that were set in the account: its own first, then by principal.

        Pages are fetched as they are needed, `limit` items at most; `timeout` is for each page.
        """

        def fetch(token: str, size: int) -> tuple[list[Quota], str]:
            request = pb.ListQuotasRequest(parent=self._names.account, page_size=size, page_token=token)
            answer = self._service.call(self._service.stub.ListQuotas, request, timeout).response
            return [_quota(quota) for quota in answer.quotas], answer.next_page_token

        return pages(fetch, limit)

    def set(
        self,
        target: str = "",
        *,
        requests_per_second: float | None = None,
        burst: int = 0,
        default_principal_requests_per_second: float | None = None,
        etag: str = "",
        timeout: float | None = None,
    ) -> Quota:
        """Sets a quota as a whole: what is not given is no limit, and for `burst` two seconds' worth.

        `default_principal_requests_per_second` is for accounts alone. With an `etag`, it is changed only if that is
        still current: ETAG_MISMATCH.
        """
        wanted = principal_pb2.Quota(
            name=self._quota_name(target),
            requests_per_second=requests_per_second,
            burst=burst,
            default_principal_requests_per_second=default_principal_requests_per_second,
            etag=etag,
        )
        request = pb.UpdateQuotaRequest(quota=wanted, update_mask=FieldMask())
        return _answered(self._service.call(self._service.stub.UpdateQuota, request, timeout))

    def reset(self, target: str = "", *, timeout: float | None = None) -> Quota:
        """Takes back a quota that was set; answers the one that holds now."""
        request = pb.ResetQuotaRequest(name=self._quota_name(target))
        return _answered(self._service.call(self._service.stub.ResetQuota, request, timeout))

    def _quota_name(self, target: str) -> str:
        return f"{self._names.principal(target) if target else self._names.account}/quota"


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
