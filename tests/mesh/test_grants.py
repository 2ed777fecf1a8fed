"""Grants over a real mesh: given, passed on, found among many, and ended within a second."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from deploy.dev.mesh import Mesh
from deploy.dev.topology import spiffe_id
from strongroom import Client
from tests.support.clients import client_of, reason_of, refusal, until

USE = ["crypto:Encrypt", "crypto:Decrypt"]
ACROSS = 'permit (principal, action in [Strongroom::Action::"crypto", Strongroom::Action::"access"], resource);'


@pytest.fixture
def storage(client: Client, mesh: Mesh, name: str) -> Iterator[Client]:
    """A workload of another account, whose own account lets it use anybody's keys."""
    account, identity = f"{name}-s", f"workload/{name}-storage"
    client.access.accounts.create(account, administrator_spiffe_ids=[spiffe_id(f"user/{account}")])
    with client_of(mesh, f"user/{account}", account) as owner:
        owner.access.principals.create("workloads/storage", spiffe_ids=[spiffe_id(identity)])
        owner.access.policies.create("across", ACROSS, attached_to=["workloads/storage"])
    with client_of(mesh, identity, account) as storage:
        yield storage


@pytest.fixture
def grantee(name: str) -> str:
    return f"accounts/{name}-s/workloads/storage"


def test_a_grant_lets_another_accounts_workload_use_a_key_until_it_is_revoked(
    tenant: Client, storage: Client, grantee: str
) -> None:
    key = tenant.keys.create("disks").name
    assert refusal(lambda: storage.encrypt(key, b"x")).reason == "PERMISSION_DENIED"

    grant = tenant.access.grants.create(key, grantee, USE, description="the storage service")
    until(lambda: reason_of(lambda: storage.encrypt(key, b"x")) == "", 1.5)
    assert storage.decrypt(storage.encrypt(key, b"secret").ciphertext).plaintext == b"secret"
    assert refusal(lambda: storage.generate_data_key(key)).reason == "PERMISSION_DENIED"

    assert tenant.access.grants.get(grant.name).description == "the storage service"
    assert [one.name for one in tenant.access.grants.list(key=key)] == [grant.name]
    tenant.access.grants.revoke(grant.name)
    until(lambda: reason_of(lambda: storage.encrypt(key, b"x")) == "PERMISSION_DENIED", 1.0)
    assert list(tenant.access.grants.list(key=key)) == []
    assert refusal(lambda: tenant.access.grants.get(grant.name)).reason == "GRANT_NOT_FOUND"


def test_the_owners_auditor_sees_which_grant_decided(tenant: Client, storage: Client, grantee: str) -> None:
    key = tenant.keys.create("disks").name
    tenant.access.principals.set_roles("users/admin", ["administrator", "auditor"])
    grant = tenant.access.grants.create(key, grantee, USE)
    until(lambda: reason_of(lambda: storage.encrypt(key, b"x")) == "", 1.5)
    until(lambda: reason_of(lambda: list(tenant.audit.events.list(limit=1))) == "", 1.5)
    event = next(tenant.audit.events.list(principal=grantee, outcome="ALLOWED", limit=1))
    assert grant.name in event.decided_by
    assert (event.resource, event.action) == (key, "crypto:Encrypt")


def test_a_grant_for_each_disk_is_bound_to_its_context(tenant: Client, storage: Client, grantee: str) -> None:
    key = tenant.keys.create("disks").name
    for number in range(120):
        tenant.access.grants.create(key, grantee, USE, context_contains={"region": "eu", "disk": f"d{number}"})
    context = {"region": "eu", "disk": "d119", "part": "1"}
    until(lambda: reason_of(lambda: storage.encrypt(key, b"x", context)) == "", 1.5)
    assert reason_of(lambda: storage.encrypt(key, b"x", {"region": "eu", "disk": "d0"})) == ""
    for other in ({"region": "eu", "disk": "d120"}, {"region": "us", "disk": "d1"}, {"region": "eu"}, {}):
        assert refusal(partial(storage.encrypt, key, b"x", other)).reason == "PERMISSION_DENIED"
    (last,) = (g for g in tenant.access.grants.list(key=key) if g.context_contains == {"region": "eu", "disk": "d119"})
    tenant.access.grants.revoke(last.name)
    until(lambda: reason_of(lambda: storage.encrypt(key, b"x", context)) == "PERMISSION_DENIED", 1.0)


def test_an_exact_context_is_exact(tenant: Client, storage: Client, grantee: str) -> None:
    key = tenant.keys.create("disks").name
    tenant.access.grants.create(key, grantee, USE, context_equals={"disk": "d"})
    until(lambda: reason_of(lambda: storage.encrypt(key, b"x", {"disk": "d"})) == "", 1.5)
    assert refusal(lambda: storage.encrypt(key, b"x", {"disk": "d", "more": "y"})).reason == "PERMISSION_DENIED"
    assert refusal(lambda: storage.encrypt(key, b"x")).reason == "PERMISSION_DENIED"


def test_a_grant_expires_by_itself(tenant: Client, storage: Client, grantee: str) -> None:
    key = tenant.keys.create("disks").name
    tenant.access.grants.create(key, grantee, USE, expire_time=datetime.now(UTC) + timedelta(seconds=4))
    until(lambda: reason_of(lambda: storage.encrypt(key, b"x")) == "", 2)
    until(lambda: reason_of(lambda: storage.encrypt(key, b"x")) == "PERMISSION_DENIED", 6)
    assert list(tenant.access.grants.list(key=key)) == []


def test_grants_are_listed_by_grantee_over_all_accounts(tenant: Client, storage: Client, grantee: str) -> None:
    first, second = (tenant.keys.create(key).name for key in ("disks", "more"))
    made = {tenant.access.grants.create(key, grantee, USE).name for key in (first, second, second)}
    assert {grant.name for grant in tenant.access.grants.list(grantee=grantee)} == made
    until(lambda: {g.name for g in storage.access.grants.list(grantee=grantee, any_account=True)} == made)
    assert [grant.key for grant in tenant.access.grants.list(key=first)] == [first]
    assert refusal(lambda: list(storage.access.grants.list(key=first))).reason == "PERMISSION_DENIED"
    assert {len(list(tenant.access.grants.list(limit=limit))) for limit in (1, 2, 3, 4)} == {1, 2, 3}


class TestPassingOn:
    """Whoever holds access:CreateGrant by a grant passes on no more than that."""

    @pytest.fixture
    def key(self, tenant: Client, grantee: str) -> str:
        key = tenant.keys.create("disks").name
        tenant.access.grants.create(
            key, grantee, ["crypto:Decrypt", "access:CreateGrant"], context_contains={"tenant": "a"}
        )
        return key

    @pytest.fixture
    def helper(self, client: Client, mesh: Mesh, name: str) -> str:
        with client_of(mesh, f"user/{name}-s", f"{name}-s") as owner:
            return owner.access.principals.create("workloads/helper").name

    def test_the_same_or_less_is_passed_on(self, storage: Client, key: str, helper: str) -> None:
        less = {"tenant": "a", "disk": "d"}
        granted = storage.access.grants.create(key, helper, ["crypto:Decrypt"], context_contains=less)
        assert granted.creator.endswith("/workloads/storage")
        storage.access.grants.create(key, helper, ["crypto:Decrypt"], context_equals=less)

    @pytest.mark.parametrize(
        ("operations", "context"),
        [
            (["crypto:Encrypt"], {"tenant": "a"}),
            (["crypto:Decrypt"], {"tenant": "b"}),
            (["crypto:Decrypt"], None),
            (["crypto:Decrypt", "crypto:Encrypt"], {"tenant": "a"}),
        ],
        ids=["another-operation", "another-context", "no-context", "one-more-operation"],
    )
    def test_more_is_refused(
        self, storage: Client, key: str, helper: str, operations: list[str], context: dict[str, str] | None
    ) -> None:
        refused = refusal(lambda: storage.access.grants.create(key, helper, operations, context_contains=context))
        assert (refused.reason, refused.metadata["action"]) == ("PERMISSION_DENIED", "access:CreateGrant")


def test_a_grant_is_retired_by_those_it_serves_and_nobody_else(
    tenant: Client, storage: Client, grantee: str, client: Client
) -> None:
    key = tenant.keys.create("disks").name
    fixed = tenant.access.grants.create(key, grantee, USE).name
    assert refusal(lambda: storage.access.grants.retire(fixed)).reason == "PERMISSION_DENIED"
    assert storage.access.grants.get(fixed).grantee == grantee
    own = tenant.access.grants.create(key, grantee, [*USE, "access:RetireGrant"]).name
    storage.access.grants.retire(own)
    other = tenant.access.grants.create(key, grantee, USE, retiring_principal="users/admin").name
    # What there is, and what there is not, is refused in the same way.
    for stranger in (other, f"{other}x"):
        refused = refusal(partial(client.access.grants.retire, stranger))
        assert (refused.reason, refused.message.replace(stranger, "…")) == (
            "PERMISSION_DENIED",
            "access:RetireGrant on … is not permitted",
        )
    tenant.access.grants.retire(other)
    assert [grant.name for grant in tenant.access.grants.list(key=key)] == [fixed]


def test_what_cannot_be_granted_is_refused(tenant: Client, name: str) -> None:
    key = tenant.keys.create("disks").name
    past = datetime.now(UTC) - timedelta(seconds=1)
    attempts = {
        "grant.operations": [
            partial(tenant.access.grants.create, key, "users/admin", []),
            partial(tenant.access.grants.create, key, "users/admin", ["keystore:DisableKey"]),
            partial(tenant.access.grants.create, key, "users/admin", ["crypto:GenerateRandom"]),
            partial(tenant.access.grants.create, key, "users/admin", ["crypto:Encrypt"] * 33),
        ],
        "grant.constraint.context_contains.pairs": [
            partial(tenant.access.grants.create, key, "users/admin", USE, context_contains={}),
        ],
        "grant.expire_time": [partial(tenant.access.grants.create, key, "users/admin", USE, expire_time=past)],
        "grant.description": [partial(tenant.access.grants.create, key, "users/admin", USE, description="x" * 257)],
        "grant.grantee": [partial(tenant.access.grants.create, key, f"accounts/{name}/users/nobody", USE)],
        "grant.retiring_principal": [
            partial(tenant.access.grants.create, key, "users/admin", USE, retiring_principal="users/nobody")
        ],
        "grant.key": [partial(tenant.access.grants.create, "none", "users/admin", USE)],
    }
    for field, calls in attempts.items():
        for call in calls:
            refused = refusal(call)
            assert refused.field == field, refused
    tenant.keys.schedule_deletion(key)
    assert refusal(lambda: tenant.access.grants.create(key, "users/admin", USE)).reason == "KEY_STATE_INVALID"
