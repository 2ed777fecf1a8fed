"""Users, workloads and roles over a real mesh."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from deploy.dev.mesh import Mesh
from deploy.dev.topology import spiffe_id
from strongroom import Client
from tests.support.clients import client_of, reason_of, refusal, until

TRUST = 'permit (principal, action == Strongroom::Action::"access:AssumeRole", resource);'
USE = 'permit (principal, action in Strongroom::Action::"crypto", resource);'


def test_a_principal_is_created_and_known_by_its_certificate(tenant: Client, mesh: Mesh, name: str) -> None:
    identity = f"workload/{name}"
    made = tenant.access.principals.create(
        "workloads/orders",
        description="Takes orders",
        tags={"team": "shop"},
        roles=["auditor"],
        spiffe_ids=[spiffe_id(identity)],
    )

    assert (made.name, made.kind) == (f"accounts/{name}/workloads/orders", "WORKLOAD")
    assert (made.tags, made.roles) == ({"team": "shop"}, (f"accounts/{name}/roles/auditor",))
    read = tenant.access.principals.get("workloads/orders")
    assert (read.description, read.spiffe_ids, read.etag) == ("Takes orders", (spiffe_id(identity),), made.etag)
    with client_of(mesh, identity, name) as workload:
        assert workload.access.whoami().principal == made.name


def test_a_role_needs_a_trust_policy_and_has_a_longest_session(tenant: Client) -> None:
    made = tenant.access.principals.create(
        "roles/operator", trust_policy=TRUST, max_session_duration=timedelta(hours=2)
    )
    assert (made.kind, made.trust_policy, made.max_session_duration) == ("ROLE", TRUST, timedelta(hours=2))
    changed = tenant.access.principals.update("roles/operator", trust_policy=TRUST + "\n")
    assert changed.max_session_duration == timedelta(hours=1)

    assert (
        refusal(lambda: tenant.access.principals.create("roles/none")).field == "principal.role_settings.trust_policy"
    )
    error = refusal(lambda: tenant.access.principals.create("roles/odd", trust_policy="permit (principal;"))
    assert (error.reason, error.metadata["line"]) == ("POLICY_INVALID", "1")
    assert refusal(lambda: tenant.access.principals.create("roles/odd", trust_policy=USE)).reason == "POLICY_INVALID"
    too_long = timedelta(hours=13)
    error = refusal(
        lambda: tenant.access.principals.create("roles/odd", trust_policy=TRUST, max_session_duration=too_long)
    )
    assert error.field == "principal.role_settings.max_session_duration"


def test_what_is_for_roles_and_what_is_for_others_is_told_apart(tenant: Client, name: str) -> None:
    assert refusal(lambda: tenant.access.principals.create("users/ann", trust_policy=TRUST)).reason == "FIELD_INVALID"
    ids = [spiffe_id(f"user/{name}-2")]
    error = refusal(lambda: tenant.access.principals.create("roles/odd", trust_policy=TRUST, spiffe_ids=ids))
    assert error.field == "principal.spiffe_ids"
    error = refusal(lambda: tenant.access.principals.set_roles("roles/auditor", ["administrator"]))
    assert (error.reason, error.field) == ("FIELD_INVALID", "name")
    assert (
        refusal(lambda: tenant.access.principals.create("users/ann", roles=["nobody"])).reason == "PRINCIPAL_NOT_FOUND"
    )
    other = "accounts/default/roles/auditor"
    assert refusal(lambda: tenant.access.principals.create("users/ann", roles=[other])).field == "principal.roles"


def test_a_principals_name_is_never_used_again(tenant: Client) -> None:
    tenant.access.principals.create("users/ann")
    error = refusal(lambda: tenant.access.principals.create("users/ann"))
    assert (error.reason, error.field) == ("ALREADY_EXISTS", "principal_id")
    tenant.access.principals.delete("users/ann")
    assert refusal(lambda: tenant.access.principals.create("users/ann")).reason == "ALREADY_EXISTS"
    # Another kind is another name.
    assert tenant.access.principals.create("workloads/ann").kind == "WORKLOAD"


def test_a_repeated_request_creates_one_principal(tenant: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "strongroom.calls.access.principals.new_request_id", lambda: "00000000-0000-4000-8000-0000000a9905"
    )
    assert tenant.access.principals.create("users/ann").etag == tenant.access.principals.create("users/ann").etag
    assert refusal(lambda: tenant.access.principals.create("users/bob")).reason == "REQUEST_ID_REUSED"


def test_a_principal_is_changed_field_by_field(tenant: Client, name: str) -> None:
    first = tenant.access.principals.create("users/ann", description="Ann", spiffe_ids=[spiffe_id(f"user/{name}-ann")])
    changed = tenant.access.principals.update("users/ann", description="Ann B.", etag=first.etag)
    assert (changed.description, changed.spiffe_ids) == ("Ann B.", first.spiffe_ids)
    assert (
        refusal(lambda: tenant.access.principals.update("users/ann", description="", etag=first.etag)).reason
        == "ETAG_MISMATCH"
    )
    assert tenant.access.principals.update("users/ann", spiffe_ids=[]).spiffe_ids == ()
    # The SPIFFE id is free again.
    assert tenant.access.principals.create("users/anna", spiffe_ids=first.spiffe_ids).spiffe_ids == first.spiffe_ids
    assert tenant.access.principals.set_tags("users/ann", {"team": "a"}).tags == {"team": "a"}
    assert (
        refusal(lambda: tenant.access.principals.set_tags("users/ann", {}, etag=first.etag)).reason == "ETAG_MISMATCH"
    )
    assert refusal(lambda: tenant.access.principals.get("users/nobody")).reason == "PRINCIPAL_NOT_FOUND"


def test_a_role_that_is_held_permits_within_a_second_and_taken_away_no_more(
    tenant: Client, mesh: Mesh, name: str
) -> None:
    identity = f"user/{name}-ann"
    tenant.access.principals.create("users/ann", spiffe_ids=[spiffe_id(identity)])
    tenant.access.principals.create("roles/operator", trust_policy=TRUST)
    tenant.access.policies.create("use", USE, attached_to=["roles/operator"])
    key = tenant.keys.create("payments").name
    with client_of(mesh, identity, name) as ann:
        assert refusal(lambda: ann.encrypt(key, b"x")).reason == "PERMISSION_DENIED"
        tenant.access.principals.set_roles("users/ann", ["operator"])
        until(lambda: reason_of(lambda: ann.encrypt(key, b"x")) == "", 1.5)
        tenant.access.principals.set_roles("users/ann", [])
        until(lambda: reason_of(lambda: ann.encrypt(key, b"x")) == "PERMISSION_DENIED", 1.5)


def test_a_disabled_principal_is_refused_everywhere_within_a_second(tenant: Client, mesh: Mesh, name: str) -> None:
    identity = f"user/{name}-ann"
    tenant.access.principals.create("users/ann", roles=["administrator"], spiffe_ids=[spiffe_id(identity)])
    with client_of(mesh, identity, name) as ann:
        ann.keys.create("payments")
        assert tenant.access.principals.disable("users/ann").disabled
        until(lambda: reason_of(lambda: ann.encrypt("payments", b"x")) == "PRINCIPAL_DISABLED", 1.5)
        until(lambda: reason_of(lambda: ann.keys.get("payments")) == "PRINCIPAL_DISABLED", 1.5)
        assert not tenant.access.principals.enable("users/ann").disabled
        until(lambda: reason_of(lambda: ann.encrypt("payments", b"x")) == "", 1.5)
        tenant.access.principals.delete("users/ann")
        until(
            lambda: reason_of(lambda: ann.encrypt("payments", b"x")) in ("IDENTITY_UNKNOWN", "PERMISSION_DENIED"), 1.5
        )


def test_whoever_is_deleted_leaves_nothing_behind(tenant: Client) -> None:
    tenant.access.principals.create("roles/operator", trust_policy=TRUST)
    tenant.access.principals.create("users/ann", roles=["operator"])
    tenant.access.policies.create("use", USE, attached_to=["users/ann", "roles/operator"])
    tenant.access.client_keys.create("users/ann")

    tenant.access.principals.delete("roles/operator")
    assert tenant.access.principals.get("users/ann").roles == ()
    assert len(tenant.access.policies.get("use").attached_to) == 1
    tenant.access.principals.delete("users/ann")
    assert tenant.access.policies.get("use").attached_to == ()
    assert list(tenant.access.client_keys.list()) == []
    assert refusal(lambda: tenant.access.policies.attach("use", "users/ann")).reason == "PRINCIPAL_NOT_FOUND"


def test_revoked_sessions_are_noted(tenant: Client) -> None:
    assert tenant.access.principals.create("users/ann").sessions_valid_after is None
    revoked = tenant.access.principals.revoke_sessions("users/ann")
    assert revoked.sessions_valid_after is not None
    assert revoked.sessions_valid_after <= (revoked.update_time or revoked.sessions_valid_after)


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("kind = USER", ["users/admin", "users/ann"]),
        ("kind = USER AND disabled = true", ["users/ann"]),
        ("tags.team = blue", ["workloads/build"]),
        ("id_prefix = a", ["roles/administrator", "roles/auditor", "users/admin", "users/ann"]),
        ("role = {auditor}", ["users/admin", "workloads/build"]),
    ],
)
def test_principals_are_filtered(tenant: Client, name: str, condition: str, found: list[str]) -> None:
    tenant.access.principals.create("users/ann")
    tenant.access.principals.disable("users/ann")
    tenant.access.principals.create("workloads/build", tags={"team": "blue"}, roles=["auditor"])
    condition = condition.replace("{auditor}", f'"accounts/{name}/roles/auditor"')
    assert _listed(tenant, condition) == found


def test_a_filter_of_principals_that_means_nothing_is_refused(tenant: Client) -> None:
    for condition in ("kind = ROBOT", "disabled = maybe", "colour = red"):
        assert refusal(partial(_listed, tenant, condition)).field == "filter"


def _listed(client: Client, condition: str) -> list[str]:
    return [client.names.relative(principal.name) for principal in client.access.principals.list(condition)]
