"""What would be decided, and why: told to those who may know, and the same as what is decided."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import pytest

from deploy.dev.mesh import Mesh
from deploy.dev.topology import spiffe_id
from strongroom import Client
from strongroom.calls.access.policies import Policy
from tests.support.clients import client_of, reason_of, refusal, until

TENANT_A = 'context.encryption_context.contains({key: "tenant", value: "a"})'
ENCRYPT = f'permit (principal, action == Strongroom::Action::"crypto:Encrypt", resource) when {{ {TENANT_A} }};'


@pytest.fixture
def ann(tenant: Client, mesh: Mesh, name: str) -> Iterator[Client]:
    """A user who encrypts for tenant a."""
    identity = f"user/{name}-ann"
    tenant.access.principals.create("users/ann", spiffe_ids=[spiffe_id(identity)])
    tenant.access.policies.create("encrypt", ENCRYPT, attached_to=["users/ann"])
    with client_of(mesh, identity, name) as ann:
        yield ann


def test_a_simulation_says_what_is_decided_and_by_what(tenant: Client, ann: Client, name: str) -> None:
    key = tenant.keys.create("payments").name
    policy = f"accounts/{name}/policies/encrypt"
    until(lambda: reason_of(lambda: ann.encrypt(key, b"x", {"tenant": "a"})) == "", 1.5)
    allowed = tenant.access.simulate("users/ann", "crypto:Encrypt", "keys/payments", {"tenant": "a"})
    assert (allowed.allowed, allowed.decided_by) == (True, policy)
    assert [(one.name, one.effect, one.account) for one in allowed.determinants] == [(policy, "PERMIT", name)]
    for context in ({"tenant": "b"}, {}):
        denied = tenant.access.simulate("users/ann", "crypto:Encrypt", key, context)
        assert (denied.allowed, denied.decided_by, denied.determinants) == (False, "default-deny", ())
        assert refusal(lambda context=context: ann.encrypt(key, b"x", context)).reason == "PERMISSION_DENIED"  # type: ignore[misc]


def test_drafts_tags_sessions_and_grants_take_part(tenant: Client, ann: Client, name: str) -> None:
    del ann
    key = tenant.keys.create("payments", tags={"team": "a"}).name

    def decrypting(**given: object) -> str:
        return tenant.access.simulate("users/ann", "crypto:Decrypt", key, **given).decided_by  # type: ignore[arg-type]

    def draft(cedar: str, *attached_to: str, kind: str = "IDENTITY") -> Policy:
        return Policy(f"accounts/{name}/policies/draft", kind, cedar, attached_to, "", None, None, "")

    on_team = 'permit (principal, action, resource) when { resource.hasTag("team") && resource.getTag("team") == "a" };'
    principal = f"accounts/{name}/users/ann"
    assert decrypting() == "default-deny"
    assert decrypting(drafts=[draft(on_team, principal)]).endswith("/policies/draft")
    assert decrypting(drafts=[draft(on_team)]) == "default-deny"
    assert decrypting(drafts=[draft(on_team, principal)], resource_tags={"team": "b"}) == "default-deny"
    assert decrypting(drafts=[draft(on_team, key, kind="RESOURCE")]).endswith("/policies/draft")
    narrow = 'permit (principal, action == Strongroom::Action::"crypto:Encrypt", resource);'
    assert decrypting(drafts=[draft(on_team, principal)], session_policy=narrow) == "session-policy"
    grant = tenant.access.grants.create(key, "users/ann", ["crypto:Decrypt"]).name
    assert decrypting() == grant
    tenant.access.principals.disable("users/ann")
    assert decrypting() == "principal-disabled"
    # A draft decides on nothing that it could not be attached to: it would tell what is in another account.
    elsewhere = key.replace(name, "default")
    for kind, target in (("RESOURCE", elsewhere), ("RESOURCE", principal), ("IDENTITY", key), ("IDENTITY", elsewhere)):
        refused = refusal(partial(decrypting, drafts=[draft(on_team, target, kind=kind)]))
        assert (refused.reason, refused.field) == ("FIELD_INVALID", "draft_policies[0].attached_to")
    refused = refusal(lambda: decrypting(drafts=[draft("permit (principal, action, resource) when { x };")]))
    assert (refused.reason, refused.metadata["column"]) == ("POLICY_INVALID", "45")


def test_across_accounts_each_side_sees_its_own(client: Client, tenant: Client, mesh: Mesh, name: str) -> None:
    other = f"{name}-o"
    client.access.accounts.create(other, administrator_spiffe_ids=[spiffe_id(f"user/{other}")])
    with client_of(mesh, f"user/{other}", other) as theirs:
        vendor = theirs.access.principals.create("workloads/app").name
        use = 'permit (principal, action in Strongroom::Action::"crypto", resource);'
        theirs.access.policies.create("use", use, attached_to=[vendor])
        key = tenant.keys.create("payments").name
        mine = tenant.access.simulate(vendor, "crypto:Encrypt", key)
        assert (mine.allowed, mine.denying_accounts, mine.determinants) == (False, (name,), ())
        seen = theirs.access.simulate(vendor, "crypto:Encrypt", key)
        assert [one.name for one in seen.determinants] == [f"accounts/{other}/policies/use"]
        tenant.access.grants.create(key, vendor, ["crypto:Encrypt"])
        assert tenant.access.simulate(vendor, "crypto:Encrypt", key).allowed
        assert theirs.access.simulate(vendor, "crypto:Encrypt", key).decided_by == f"accounts/{other}/policies/use"
        stranger = refusal(lambda: theirs.access.simulate("accounts/default/users/admin", "crypto:Encrypt", key))
        assert stranger.reason == "PERMISSION_DENIED"


def test_a_question_that_cannot_be_asked_is_refused(tenant: Client) -> None:
    for principal, action, resource, field in (
        ("users/ann", "crypto:None", "keys/k", "action"),
        ("users/ann", "", "keys/k", "action"),
        ("services/x", "crypto:Encrypt", "accounts/A/keys/k", "resource"),
        ("accounts/a/keys/k", "crypto:Encrypt", "keys/k", "principal"),
    ):
        asked = refusal(lambda p=principal, a=action, r=resource: tenant.access.simulate(p, a, r))  # type: ignore[misc]
        assert asked.field == field, asked


def test_the_schema_is_there_for_everybody(tenant: Client, ann: Client) -> None:
    assert "entity Key in [Account]" in tenant.access.get_schema()
    assert ann.access.get_schema() == tenant.access.get_schema()
    tenant.access.principals.disable("users/ann")
    until(lambda: reason_of(ann.access.get_schema) == "PRINCIPAL_DISABLED", 1.5)
    assert json.dumps(tenant.access.get_schema())
