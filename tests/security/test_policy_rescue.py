"""A policy that denies too much is one account's affair, and has a way out; what a policy forbids is asked for."""

from __future__ import annotations

from strongroom import Client
from tests.support.access import EVERYTHING, Rows, settle
from tests.support.clients import reason_of, refusal, until

NEVER = "forbid (principal, action, resource);"
TOO_DEEP = f"permit (principal, action, resource) when {{ {' || '.join(['true'] * 485)} }};"


def test_an_administrator_of_the_mesh_detaches_what_locks_an_account_out(
    client: Client, tenant: Client, rows: Rows, name: str
) -> None:
    policy = tenant.access.policies.create("mine", EVERYTHING, attached_to=[tenant.names.account]).name
    rows.rewrite_policy(policy, "permit (")
    until(lambda: reason_of(tenant.access.accounts.get) == "PERMISSION_DENIED", 2.0)
    error = refusal(lambda: tenant.access.policies.detach(policy, f"accounts/{name}"))
    assert error.reason == "PERMISSION_DENIED"
    assert client.access.accounts.get().name

    detached = client.access.policies.detach(policy, f"accounts/{name}")
    assert detached.attached_to == ()
    until(lambda: reason_of(tenant.access.accounts.get) == "", 2.0)
    events = tenant.audit.events.list(action="access:DetachPolicy", resource=policy)
    assert any(event.principal.startswith(client.names.account) and event.outcome == "ALLOWED" for event in events)


def test_nobody_else_detaches_policies_of_other_accounts(client: Client, tenant: Client) -> None:
    policy = f"{client.names.account}/policies/administrator"
    target = f"{client.names.account}/roles/administrator"
    assert refusal(lambda: tenant.access.policies.detach(policy, target)).reason == "PERMISSION_DENIED"
    assert target in client.access.policies.get("administrator").attached_to


def test_a_policy_that_cannot_be_evaluated_leaves_the_others(tenant: Client, rows: Rows) -> None:
    policy = tenant.access.policies.create("deep", EVERYTHING, attached_to=[tenant.names.account]).name
    key = tenant.keys.create("payments").name
    rows.rewrite_policy(policy, TOO_DEEP)
    settle()
    sealed = tenant.encrypt(key, b"x").ciphertext
    assert tenant.decrypt(sealed).plaintext == b"x"
    assert refusal(lambda: tenant.access.policies.create("deeper", TOO_DEEP)).reason == "POLICY_INVALID"
    assert tenant.access.policies.detach("deep", tenant.names.account).attached_to == ()


def test_taking_a_secrets_tag_away_is_permitted_by_itself(tenant: Client) -> None:
    key = tenant.keys.create("of-secrets").name
    tenant.secrets.create("db", b"v", key=key, tags={"team": "blue", "env": "prod"})
    forbid = 'forbid (principal, action == Strongroom::Action::"secrets:UntagSecret", resource);'
    tenant.access.policies.create("no-untag", forbid, attached_to=["users/admin"])
    settle()
    assert refusal(lambda: tenant.secrets.update("db", tags={"team": "blue"})).reason == "PERMISSION_DENIED"
    assert tenant.secrets.update("db", tags={"team": "red", "env": "prod", "x": "y"}).tags["team"] == "red"
    tenant.access.policies.detach("no-untag", "users/admin")
    settle()
    assert tenant.secrets.update("db", tags={}).tags == {}
