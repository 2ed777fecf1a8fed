"""Quotas over a real mesh, as far as they are records: what is set, by whom, and what holds."""

from __future__ import annotations

from functools import partial

import pytest

from strongroom import Client
from tests.support.clients import refusal


def test_without_a_quota_there_is_no_limit(tenant: Client, name: str) -> None:
    quota = tenant.access.quotas.get()
    assert (quota.name, quota.requests_per_second, quota.overridden) == (f"accounts/{name}/quota", None, False)
    assert tenant.access.quotas.get("users/admin").requests_per_second is None
    assert list(tenant.access.quotas.list()) == []
    assert refusal(lambda: tenant.access.quotas.get("users/nobody")).reason == "PRINCIPAL_NOT_FOUND"


def test_a_principals_quota_is_set_and_taken_back(tenant: Client, name: str) -> None:
    tenant.access.principals.create("users/ann")
    made = tenant.access.quotas.set("users/ann", requests_per_second=2.5)
    assert (made.requests_per_second, made.burst, made.overridden) == (2.5, 5, True)
    assert tenant.access.quotas.set("users/ann", requests_per_second=2.5, burst=7, etag=made.etag).burst == 7
    assert refusal(lambda: tenant.access.quotas.set("users/ann", burst=7, etag=made.etag)).reason == "ETAG_MISMATCH"
    assert [quota.name for quota in tenant.access.quotas.list()] == [f"accounts/{name}/users/ann/quota"]
    assert not tenant.access.quotas.reset("users/ann").overridden
    assert not tenant.access.quotas.reset("users/ann").overridden
    tenant.access.quotas.set("users/ann", requests_per_second=1)
    tenant.access.principals.delete("users/ann")
    assert list(tenant.access.quotas.list()) == []


def test_an_accounts_quota_is_the_business_of_the_mesh(client: Client, tenant: Client, name: str) -> None:
    account = f"accounts/{name}"
    assert refusal(lambda: tenant.access.quotas.set(requests_per_second=100_000)).reason == "PERMISSION_DENIED"
    assert refusal(tenant.access.quotas.reset).reason == "PERMISSION_DENIED"
    made = client.access.quotas.set(account, requests_per_second=1000, default_principal_requests_per_second=500)
    assert (made.name, made.burst) == (f"{account}/quota", 2000)

    # The account sees it, and its principals have what it gives them.
    assert tenant.access.quotas.get().requests_per_second == 1000
    assert (
        tenant.access.quotas.get("users/admin").requests_per_second,
        tenant.access.quotas.get("users/admin").burst,
    ) == (500, 1000)
    tenant.access.quotas.set("users/admin", requests_per_second=400)
    assert [quota.requests_per_second for quota in tenant.access.quotas.list()] == [1000, 400]
    assert client.access.quotas.reset(account).requests_per_second is None
    # Administrators of the mesh see no principals of others.
    assert refusal(lambda: client.access.quotas.get(f"{account}/users/admin")).reason == "PERMISSION_DENIED"


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
    error = refusal(partial(tenant.access.quotas.set, "users/admin", **asked))  # type: ignore[arg-type]
    assert (error.reason, error.field) == ("FIELD_INVALID", f"quota.{field}")
