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
    made = tenant.create_principal(
        "workloads/orders",
        description="Takes orders",
        tags={"team": "shop"},
        roles=["auditor"],
        spiffe_ids=[spiffe_id(identity)],
    )

    assert (made.name, made.kind) == (f"accounts/{name}/workloads/orders", "WORKLOAD")
    assert (made.tags, made.roles) == ({"team": "shop"}, (f"accounts/{name}/roles/auditor",))
    read = tenant.get_principal("workloads/orders")
    assert (read.description, read.spiffe_ids, read.etag) == ("Takes orders", (spiffe_id(identity),), made.etag)
    with client_of(mesh, identity, name) as workload:
        assert workload.whoami().principal == made.name


def test_a_role_needs_a_trust_policy_and_has_a_longest_session(tenant: Client) -> None:
    made = tenant.create_principal("roles/operator", trust_policy=TRUST, max_session_duration=timedelta(hours=2))
    assert (made.kind, made.trust_policy, made.max_session_duration) == ("ROLE", TRUST, timedelta(hours=2))
    changed = tenant.update_principal("roles/operator", trust_policy=TRUST + "\n")
    assert changed.max_session_duration == timedelta(hours=1)

    assert refusal(lambda: tenant.create_principal("roles/none")).field == "principal.role_settings.trust_policy"
    error = refusal(lambda: tenant.create_principal("roles/odd", trust_policy="permit (principal;"))
    assert (error.reason, error.metadata["line"]) == ("POLICY_INVALID", "1")
    assert refusal(lambda: tenant.create_principal("roles/odd", trust_policy=USE)).reason == "POLICY_INVALID"
    too_long = timedelta(hours=13)
    error = refusal(lambda: tenant.create_principal("roles/odd", trust_policy=TRUST, max_session_duration=too_long))
    assert error.field == "principal.role_settings.max_session_duration"


def test_what_is_for_roles_and_what_is_for_others_is_told_apart(tenant: Client, name: str) -> None:
    assert refusal(lambda: tenant.create_principal("users/ann", trust_policy=TRUST)).reason == "FIELD_INVALID"
    ids = [spiffe_id(f"user/{name}-2")]
    error = refusal(lambda: tenant.create_principal("roles/odd", trust_policy=TRUST, spiffe_ids=ids))
    assert error.field == "principal.spiffe_ids"
    error = refusal(lambda: tenant.set_principal_roles("roles/auditor", ["administrator"]))
    assert (error.reason, error.field) == ("FIELD_INVALID", "name")
    assert refusal(lambda: tenant.create_principal("users/ann", roles=["nobody"])).reason == "PRINCIPAL_NOT_FOUND"
    other = "accounts/default/roles/auditor"
    assert refusal(lambda: tenant.create_principal("users/ann", roles=[other])).field == "principal.roles"


def test_a_principals_name_is_never_used_again(tenant: Client) -> None:
    tenant.create_principal("users/ann")
    error = refusal(lambda: tenant.create_principal("users/ann"))
    assert (error.reason, error.field) == ("ALREADY_EXISTS", "principal_id")
    tenant.delete_principal("users/ann")
    assert refusal(lambda: tenant.create_principal("users/ann")).reason == "ALREADY_EXISTS"
    # Another kind is another name.
    assert tenant.create_principal("workloads/ann").kind == "WORKLOAD"


def test_a_repeated_request_creates_one_principal(tenant: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strongroom.calls.principals.new_request_id", lambda: "00000000-0000-4000-8000-0000000a9905")
    assert tenant.create_principal("users/ann").etag == tenant.create_principal("users/ann").etag
    assert refusal(lambda: tenant.create_principal("users/bob")).reason == "REQUEST_ID_REUSED"


def test_a_principal_is_changed_field_by_field(tenant: Client, name: str) -> None:
    first = tenant.create_principal("users/ann", description="Ann", spiffe_ids=[spiffe_id(f"user/{name}-ann")])
    changed = tenant.update_principal("users/ann", description="Ann B.", etag=first.etag)
    assert (changed.description, changed.spiffe_ids) == ("Ann B.", first.spiffe_ids)
    assert (
        refusal(lambda: tenant.update_principal("users/ann", description="", etag=first.etag)).reason == "ETAG_MISMATCH"
    )
    assert tenant.update_principal("users/ann", spiffe_ids=[]).spiffe_ids == ()
    # The SPIFFE id is free again.
    assert tenant.create_principal("users/anna", spiffe_ids=first.spiffe_ids).spiffe_ids == first.spiffe_ids
    assert tenant.set_principal_tags("users/ann", {"team": "a"}).tags == {"team": "a"}
    assert refusal(lambda: tenant.set_principal_tags("users/ann", {}, etag=first.etag)).reason == "ETAG_MISMATCH"
    assert refusal(lambda: tenant.get_principal("users/nobody")).reason == "PRINCIPAL_NOT_FOUND"


def test_a_role_that_is_held_permits_within_a_second_and_taken_away_no_more(
    tenant: Client, mesh: Mesh, name: str
) -> None:
    identity = f"user/{name}-ann"
    tenant.create_principal("users/ann", spiffe_ids=[spiffe_id(identity)])
    tenant.create_principal("roles/operator", trust_policy=TRUST)
    tenant.create_policy("use", USE, attached_to=["roles/operator"])
    key = tenant.create_key("payments").name
    with client_of(mesh, identity, name) as ann:
        assert refusal(lambda: ann.encrypt(key, b"x")).reason == "PERMISSION_DENIED"
        tenant.set_principal_roles("users/ann", ["operator"])
        until(lambda: reason_of(lambda: ann.encrypt(key, b"x")) == "", 1.5)
        tenant.set_principal_roles("users/ann", [])
        until(lambda: reason_of(lambda: ann.encrypt(key, b"x")) == "PERMISSION_DENIED", 1.5)


def test_a_disabled_principal_is_refused_everywhere_within_a_second(tenant: Client, mesh: Mesh, name: str) -> None:
    identity = f"user/{name}-ann"
    tenant.create_principal("users/ann", roles=["administrator"], spiffe_ids=[spiffe_id(identity)])
    with client_of(mesh, identity, name) as ann:
        ann.create_key("payments")
        assert tenant.disable_principal("users/ann").disabled
        until(lambda: reason_of(lambda: ann.encrypt("payments", b"x")) == "PRINCIPAL_DISABLED", 1.5)
        until(lambda: reason_of(lambda: ann.get_key("payments")) == "PRINCIPAL_DISABLED", 1.5)
        assert not tenant.enable_principal("users/ann").disabled
        until(lambda: reason_of(lambda: ann.encrypt("payments", b"x")) == "", 1.5)
        tenant.delete_principal("users/ann")
        until(
            lambda: reason_of(lambda: ann.encrypt("payments", b"x")) in ("IDENTITY_UNKNOWN", "PERMISSION_DENIED"), 1.5
        )


def test_whoever_is_deleted_leaves_nothing_behind(tenant: Client) -> None:
    tenant.create_principal("roles/operator", trust_policy=TRUST)
    tenant.create_principal("users/ann", roles=["operator"])
    tenant.create_policy("use", USE, attached_to=["users/ann", "roles/operator"])
    tenant.create_client_key("users/ann")

    tenant.delete_principal("roles/operator")
    assert tenant.get_principal("users/ann").roles == ()
    assert len(tenant.get_policy("use").attached_to) == 1
    tenant.delete_principal("users/ann")
    assert tenant.get_policy("use").attached_to == ()
    assert list(tenant.list_client_keys()) == []
    assert refusal(lambda: tenant.attach_policy("use", "users/ann")).reason == "PRINCIPAL_NOT_FOUND"


def test_revoked_sessions_are_noted(tenant: Client) -> None:
    assert tenant.create_principal("users/ann").sessions_valid_after is None
    revoked = tenant.revoke_sessions("users/ann")
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
    tenant.create_principal("users/ann")
    tenant.disable_principal("users/ann")
    tenant.create_principal("workloads/build", tags={"team": "blue"}, roles=["auditor"])
    condition = condition.replace("{auditor}", f'"accounts/{name}/roles/auditor"')
    assert _listed(tenant, condition) == found


def test_a_filter_of_principals_that_means_nothing_is_refused(tenant: Client) -> None:
    for condition in ("kind = ROBOT", "disabled = maybe", "colour = red"):
        assert refusal(partial(_listed, tenant, condition)).field == "filter"


def _listed(client: Client, condition: str) -> list[str]:
    return [client.names.relative(principal.name) for principal in client.list_principals(condition)]
