"""Quotas over a real mesh, as far as they are records: what is set, by whom, and what holds."""

from __future__ import annotations

from functools import partial

import pytest

from strongroom import Client
from tests.support.clients import refusal


def test_without_a_quota_there_is_no_limit(tenant: Client, name: str) -> None:
    quota = tenant.get_quota()
    assert (quota.name, quota.requests_per_second, quota.overridden) == (f"accounts/{name}/quota", None, False)
    assert tenant.get_quota("users/admin").requests_per_second is None
    assert list(tenant.list_quotas()) == []
    assert refusal(lambda: tenant.get_quota("users/nobody")).reason == "PRINCIPAL_NOT_FOUND"


def test_a_principals_quota_is_set_and_taken_back(tenant: Client, name: str) -> None:
    tenant.create_principal("users/ann")
    made = tenant.set_quota("users/ann", requests_per_second=2.5)
    assert (made.requests_per_second, made.burst, made.overridden) == (2.5, 5, True)
    assert tenant.set_quota("users/ann", requests_per_second=2.5, burst=7, etag=made.etag).burst == 7
    assert refusal(lambda: tenant.set_quota("users/ann", burst=7, etag=made.etag)).reason == "ETAG_MISMATCH"
    assert [quota.name for quota in tenant.list_quotas()] == [f"accounts/{name}/users/ann/quota"]
    assert not tenant.reset_quota("users/ann").overridden
    assert not tenant.reset_quota("users/ann").overridden
    tenant.set_quota("users/ann", requests_per_second=1)
    tenant.delete_principal("users/ann")
    assert list(tenant.list_quotas()) == []


def test_an_accounts_quota_is_the_business_of_the_mesh(client: Client, tenant: Client, name: str) -> None:
    account = f"accounts/{name}"
    assert refusal(lambda: tenant.set_quota(requests_per_second=100_000)).reason == "PERMISSION_DENIED"
    assert refusal(tenant.reset_quota).reason == "PERMISSION_DENIED"
    made = client.set_quota(account, requests_per_second=1000, default_principal_requests_per_second=500)
    assert (made.name, made.burst) == (f"{account}/quota", 2000)

    # The account sees it, and its principals have what it gives them.
    assert tenant.get_quota().requests_per_second == 1000
    assert (tenant.get_quota("users/admin").requests_per_second, tenant.get_quota("users/admin").burst) == (500, 1000)
    tenant.set_quota("users/admin", requests_per_second=400)
    assert [quota.requests_per_second for quota in tenant.list_quotas()] == [1000, 400]
    assert client.reset_quota(account).requests_per_second is None
    # Administrators of the mesh see no principals of others.
    assert refusal(lambda: client.get_quota(f"{account}/users/admin")).reason == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"requests_per_second": 0.05}, "requests_per_second"),
        ({"requests_per_second": float("nan")}, "requests_per_second"),
        ({"requests_per_second": 1_000_001.0}, "requests_per_second"),
        ({"burst": -1}, "burst"),
        ({"default_principal_requests_per_second": 1.0}, "default_principal_requests_per_second"),
    ],
)
def test_a_quota_has_limits(tenant: Client, asked: dict[str, float], field: str) -> None:
    error = refusal(partial(tenant.set_quota, "users/admin", **asked))  # type: ignore[arg-type]
    assert (error.reason, error.field) == ("FIELD_INVALID", f"quota.{field}")
