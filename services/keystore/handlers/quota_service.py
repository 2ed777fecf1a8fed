"""Handlers of quotas."""

from __future__ import annotations

from services.keystore.access.accounts.quotas import Quotas
from services.keystore.access.records.resources import PRINCIPALS, Quota, collection_of
from services.runtime import clock
from services.runtime.access.quotas import default_burst
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError, invalid, required
from services.runtime.requests import names
from services.runtime.requests.fields import changed_paths
from services.runtime.requests.paging import Page
from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import principal_pb2

_SUFFIX = "/quota"
_LOWEST, _HIGHEST = 0.1, 1_000_000
_OF_ACCOUNTS = "default_principal_requests_per_second"
_PATHS = ("requests_per_second", "burst", _OF_ACCOUNTS)


class QuotaHandlers:
    """The methods of AccessService about quotas."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas

    def GetQuota(self, request: pb.GetQuotaRequest, call: Call) -> principal_pb2.Quota:
        """The quota that holds."""
        return quota_message(self._quotas.get(call, _target(request.name, "name")))

    def ListQuotas(self, request: pb.ListQuotasRequest, call: Call) -> pb.ListQuotasResponse:
        """A page of the quotas that were set in an account."""
        account = names.parse_account(request.parent, "parent")
        page = Page.of(request, f"{request.parent}/quotas")
        found = self._quotas.page(call, account, page.after, page.limit)
        quotas, token = page.fill(found, quota_message, lambda quota: quota.target)
        return pb.ListQuotasResponse(quotas=quotas, next_page_token=token)

    def UpdateQuota(self, request: pb.UpdateQuotaRequest, call: Call) -> principal_pb2.Quota:
        """Another quota."""
        target = _target(request.quota.name, "quota.name")
        of_account = not collection_of(target)
        paths = changed_paths(request.update_mask, _PATHS if of_account else _PATHS[:2])
        if not of_account and request.quota.HasField("default_principal_requests_per_second"):
            raise invalid(f"quota.{_OF_ACCOUNTS}", "is for accounts alone")
        return quota_message(self._quotas.update(call, _wanted(target, request.quota), paths, request.quota.etag))

    def ResetQuota(self, request: pb.ResetQuotaRequest, call: Call) -> principal_pb2.Quota:
        """The quota that the configuration gives."""
        return quota_message(self._quotas.reset(call, _target(request.name, "name")))


def quota_message(quota: Quota) -> principal_pb2.Quota:
    """A quota as callers see it."""
    rate = quota.requests_per_second
    return principal_pb2.Quota(
        name=quota.target + _SUFFIX,
        requests_per_second=rate,
        burst=quota.burst or (int(default_burst(rate)) if rate is not None else 0),
        default_principal_requests_per_second=quota.default_principal_requests_per_second,
        overridden=quota.revision > 0,
        update_time=clock.from_microseconds(quota.updated_us) if quota.revision else None,
        etag=str(quota.revision),
    )


def _wanted(target: str, asked: principal_pb2.Quota) -> Quota:
    if asked.burst and not 1 <= asked.burst <= _HIGHEST:
        raise invalid("quota.burst", f"is not 1 to {_HIGHEST}")
    return Quota(target, _rate(asked, "requests_per_second"), asked.burst, _rate(asked, _OF_ACCOUNTS))


def _rate(asked: principal_pb2.Quota, field: str) -> float | None:
    if not asked.HasField(field):  # type: ignore[arg-type]  # one of two names
        return None
    rate: float = getattr(asked, field)
    if not _LOWEST <= rate <= _HIGHEST:
        raise invalid(f"quota.{field}", f"is not {_LOWEST} to {_HIGHEST}")
    return rate


def _target(name: str, field: str) -> str:
    if not name:
        raise required(field)
    target = name.removesuffix(_SUFFIX)
    if target == name:
        raise StrongroomError(
            Reason.NAME_MALFORMED,
            f"{field} is not of the form accounts/{{account}}/quota or {{principal}}/quota",
            field=field,
        )
    if target.count("/") == 1:
        return f"accounts/{names.parse_account(target, field)}"
    return str(names.parse(target, field, *PRINCIPALS))
