"""Quotas over a real mesh: who is over one is told when to come again, and nobody else feels it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.dev.mesh import Mesh
from strongroom import Client
from tests.support.access import client_key, workload
from tests.support.clients import client_by, reason_of, refusal, until


@pytest.fixture
def key(tenant: Client) -> str:
    return tenant.keys.create("payments").name


def test_an_account_over_its_quota_is_refused_with_a_delay_and_others_are_not(
    client: Client, tenant: Client, name: str, key: str
) -> None:
    other = client.keys.create(name).name
    client.access.quotas.set(f"accounts/{name}", requests_per_second=2, burst=4)
    until(lambda: reason_of(lambda: tenant.encrypt(key, b"x")) == "QUOTA_EXCEEDED", 5)

    refused = refusal(lambda: [tenant.encrypt(key, b"x") for _ in range(8)])
    assert (refused.code.name, refused.reason) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
    assert refused.metadata["target"] == f"accounts/{name}"
    assert 0 < refused.retry_after_seconds <= 5
    for _ in range(20):
        client.encrypt(other, b"x")
    # Its owner lifts it, which itself is within no quota of the tenant's.
    client.access.quotas.reset(f"accounts/{name}")
    until(lambda: reason_of(lambda: [tenant.encrypt(key, b"x") for _ in range(10)]) == "", 3)


def test_exchanging_a_credential_is_a_request_like_others(
    client: Client, tenant: Client, mesh: Mesh, name: str
) -> None:
    credential = client_key(tenant, workload(tenant))
    with client_by(mesh, credential) as session:
        assert session.access.whoami().account == f"accounts/{name}"
    client.access.quotas.set(f"accounts/{name}", requests_per_second=1, burst=1)

    def exchanged() -> str:
        with client_by(mesh, credential) as session:
            return reason_of(session.access.whoami)

    with ThreadPoolExecutor(8) as pool:
        assert "QUOTA_EXCEEDED" in set(pool.map(lambda _: exchanged(), range(16)))


def test_a_flood_is_counted_in_few_events(client: Client, tenant: Client, name: str, key: str) -> None:
    tenant.access.principals.set_roles("users/admin", ["administrator", "auditor"])
    client.access.quotas.set(f"accounts/{name}", requests_per_second=1, burst=1)
    until(lambda: reason_of(lambda: tenant.encrypt(key, b"x")) == "QUOTA_EXCEEDED", 5)
    with ThreadPoolExecutor(12) as pool:
        reasons = list(pool.map(lambda _: reason_of(lambda: tenant.encrypt(key, b"x")), range(48)))
    refused = reasons.count("QUOTA_EXCEEDED")
    assert refused > 24
    client.access.quotas.reset(f"accounts/{name}")
    until(lambda: reason_of(lambda: tenant.encrypt(key, b"x")) == "", 5)
    told = [event for event in tenant.audit.events.list(limit=200) if event.reason == "QUOTA_EXCEEDED"]
    assert told
    assert len(told) < refused / 2
    assert any(event.item_count > 1 for event in told)
    assert all(event.resource == f"accounts/{name}" for event in told)
