"""Policies over a real mesh: written, attached, in effect within a second, and never locking an account out."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from deploy.dev.mesh import Mesh
from deploy.dev.topology import spiffe_id
from strongroom import Client
from tests.support.clients import client_of, reason_of, refusal, until

USE = 'permit (principal, action in Strongroom::Action::"crypto", resource);'
NO_USE = 'forbid (principal, action in Strongroom::Action::"crypto", resource);'
NO_ACCESS = 'forbid (principal, action in Strongroom::Action::"access", resource);'


@pytest.fixture
def ann(tenant: Client, mesh: Mesh, name: str) -> Iterator[Client]:
    """A user of the tenant's account who may do nothing."""
    identity = f"user/{name}-ann"
    tenant.access.principals.create("users/ann", spiffe_ids=[spiffe_id(identity)])
    with client_of(mesh, identity, name) as ann:
        yield ann


def test_an_attached_policy_permits_within_a_second_and_detached_no_more(tenant: Client, ann: Client) -> None:
    key = tenant.keys.create("payments").name
    made = tenant.access.policies.create("use", USE, description="Use of keys")
    assert (made.kind, made.cedar, made.attached_to) == ("IDENTITY", USE, ())
    assert refusal(lambda: ann.encrypt(key, b"x")).reason == "PERMISSION_DENIED"

    attached = tenant.access.policies.attach("use", "users/ann")
    assert tenant.access.policies.attach("use", "users/ann").etag == attached.etag
    until(lambda: reason_of(lambda: ann.encrypt(key, b"x")) == "", 1.5)
    assert tenant.access.policies.detach("use", "users/ann").attached_to == ()
    until(lambda: reason_of(lambda: ann.encrypt(key, b"x")) == "PERMISSION_DENIED", 1.5)


def test_keystore_itself_decides_on_what_was_changed_a_moment_ago(tenant: Client, ann: Client) -> None:
    tenant.keys.create("payments")
    tenant.access.policies.create(
        "read", 'permit (principal, action == Strongroom::Action::"keystore:GetKey", resource);'
    )
    for _ in range(10):
        tenant.access.policies.attach("read", "users/ann")
        assert reason_of(lambda: ann.keys.get("payments")) == ""
        tenant.access.policies.detach("read", "users/ann")
        assert reason_of(lambda: ann.keys.get("payments")) == "PERMISSION_DENIED"


def test_a_policy_on_the_account_is_everybodys(tenant: Client, ann: Client, name: str) -> None:
    key = tenant.keys.create("payments").name
    tenant.access.policies.create("use", USE, attached_to=[f"accounts/{name}", "users/ann"])
    until(lambda: reason_of(lambda: ann.encrypt(key, b"x")) == "", 1.5)
    tenant.access.policies.detach("use", "users/ann")
    assert tenant.access.policies.get("use").attached_to == (f"accounts/{name}",)
    tenant.access.policies.update("use", cedar=NO_USE)
    until(lambda: reason_of(lambda: tenant.encrypt(key, b"x")) == "PERMISSION_DENIED", 1.5)


def test_a_policy_on_a_key_decides_within_a_second(tenant: Client, ann: Client, name: str) -> None:
    key = tenant.keys.create("payments")
    other = tenant.keys.create("other").name
    principal = f'Strongroom::User::"accounts/{name}/users/ann"'
    tenant.access.policies.create(
        "ann", f"permit (principal == {principal}, action, resource);", kind="RESOURCE", attached_to=["keys/payments"]
    )
    until(lambda: reason_of(lambda: ann.encrypt(key.name, b"x")) == "", 1.5)
    assert refusal(lambda: ann.encrypt(other, b"x")).reason == "PERMISSION_DENIED"
    # For keystore too.
    until(lambda: reason_of(lambda: ann.keys.get(key.name)) == "", 1.5)
    # What is remembered of the key is of another revision.
    assert tenant.keys.get(key.name).etag != key.etag
    tenant.access.policies.update("ann", cedar=NO_USE)
    until(lambda: reason_of(lambda: tenant.encrypt(key.name, b"x")) == "PERMISSION_DENIED", 1.5)
    tenant.access.policies.delete("ann")
    until(lambda: reason_of(lambda: tenant.encrypt(key.name, b"x")) == "", 1.5)


def test_a_policy_on_a_secret_decides_within_a_second(tenant: Client, ann: Client, name: str) -> None:
    tenant.keys.create("strongroom-secrets")
    tenant.keys.aliases.create("strongroom-secrets", "strongroom-secrets")
    tenant.secrets.create("password", b"s3cret")
    assert refusal(lambda: ann.secrets.get_value("password")).reason == "PERMISSION_DENIED"
    read = 'action == Strongroom::Action::"secrets:GetSecretValue"'
    text = f'forbid (principal == Strongroom::User::"accounts/{name}/users/admin", {read}, resource);'
    tenant.access.policies.create("nobody", text, kind="RESOURCE", attached_to=["secrets/password"])
    until(lambda: reason_of(lambda: tenant.secrets.get_value("password")) == "PERMISSION_DENIED", 1.5)
    tenant.access.policies.delete("nobody")
    until(lambda: reason_of(lambda: tenant.secrets.get_value("password")) == "", 1.5)


def test_targets_must_be_there_and_of_the_policys_kind(tenant: Client, name: str) -> None:
    tenant.access.policies.create("identity", USE)
    tenant.access.policies.create("resource", USE, kind="RESOURCE")
    tenant.keys.create("payments")
    assert refusal(lambda: tenant.access.policies.attach("identity", "users/nobody")).reason == "PRINCIPAL_NOT_FOUND"
    assert refusal(lambda: tenant.access.policies.attach("resource", "keys/none")).reason == "KEY_NOT_FOUND"
    for policy, target in (
        ("identity", "keys/payments"),
        ("resource", "users/admin"),
        ("resource", f"accounts/{name}"),
    ):
        error = refusal(partial(tenant.access.policies.attach, policy, target))
        assert (error.reason, error.field) == ("FIELD_INVALID", "target")
    error = refusal(lambda: tenant.access.policies.create("odd", USE, attached_to=["keys/payments"]))
    assert (error.reason, error.field) == ("FIELD_INVALID", "policy.attached_to")


def test_a_policy_is_checked_when_it_is_written(tenant: Client) -> None:
    text = f"{USE}\npermit (principal, action, resource) when {{ resource.colour == 1 }};"
    error = refusal(lambda: tenant.access.policies.create("odd", text))
    assert (error.reason, error.field, error.metadata["line"]) == ("POLICY_INVALID", "policy.cedar", "2")
    assert "colour" in error.metadata["error"]
    (first, *_) = tenant.access.policies.validate(text)
    assert (first.severity, first.line) == ("ERROR", 2)
    assert tenant.access.policies.validate(USE) == ()
    assert refusal(lambda: tenant.access.policies.create("odd", "")).reason == "FIELD_REQUIRED"
    assert refusal(lambda: tenant.access.policies.create("odd", USE + " " * 32_768)).reason == "FIELD_TOO_LARGE"
    stranger = 'permit (principal == Strongroom::User::"accounts/default/users/admin", action, resource);'
    assert refusal(lambda: tenant.access.policies.create("odd", stranger)).reason == "POLICY_INVALID"
    assert tenant.access.policies.create("even", stranger, kind="RESOURCE").kind == "RESOURCE"
    tenant.access.policies.create("use", USE)
    assert refusal(lambda: tenant.access.policies.update("use", cedar=text)).reason == "POLICY_INVALID"
    assert tenant.access.policies.get("use").cedar == USE


def test_policies_are_changed_listed_and_deleted(tenant: Client, name: str) -> None:
    first = tenant.access.policies.create("use", USE)
    described = tenant.access.policies.update("use", description="Use", etag=first.etag)
    assert (described.description, described.cedar) == ("Use", USE)
    assert (
        refusal(lambda: tenant.access.policies.update("use", cedar=NO_USE, etag=first.etag)).reason == "ETAG_MISMATCH"
    )
    assert refusal(lambda: tenant.access.policies.delete("use", etag=first.etag)).reason == "ETAG_MISMATCH"
    assert refusal(lambda: tenant.access.policies.create("use", USE)).field == "policy_id"
    tenant.keys.create("payments")
    before = {policy.name.rpartition("/")[2] for policy in tenant.access.policies.list()}
    tenant.access.policies.create("on-key", USE, kind="RESOURCE", attached_to=["keys/payments"])

    def listed(condition: str) -> list[str]:
        return [policy.name.rpartition("/")[2] for policy in tenant.access.policies.list(condition)]

    assert listed("") == sorted({*before, "on-key"})
    assert listed("kind = RESOURCE") == ["on-key"]
    assert listed(f'attached_to = "accounts/{name}/keys/payments"') == ["on-key"]
    assert listed("id_prefix = a AND kind = IDENTITY") == ["administrator", "auditor"]
    tenant.access.policies.delete("use")
    assert refusal(lambda: tenant.access.policies.get("use")).reason == "POLICY_NOT_FOUND"
    # A policy's id is free again.
    assert tenant.access.policies.create("use", USE).name.endswith("/use")


def test_an_account_cannot_lock_itself_out(tenant: Client, name: str) -> None:
    account = f"accounts/{name}"
    tenant.access.policies.create("quiet", NO_ACCESS)
    for work in (
        lambda: tenant.access.policies.delete("administrator"),
        lambda: tenant.access.policies.detach("administrator", "roles/administrator"),
        lambda: tenant.access.policies.update("administrator", cedar=USE),
        lambda: tenant.access.policies.create("loud", NO_ACCESS, attached_to=[account]),
        lambda: tenant.access.policies.attach("quiet", "users/admin"),
        lambda: tenant.access.principals.set_roles("users/admin", ["auditor"]),
        lambda: tenant.access.principals.disable("users/admin"),
        lambda: tenant.access.principals.delete("users/admin"),
        lambda: tenant.access.principals.delete("roles/administrator"),
    ):
        assert refusal(work).reason == "POLICY_LOCKOUT"
    # Nothing of what was refused has stayed.
    assert tenant.access.principals.get("users/admin").roles == (
        f"{account}/roles/administrator",
        f"{account}/roles/auditor",
    )
    assert refusal(lambda: tenant.access.policies.get("loud")).reason == "POLICY_NOT_FOUND"


def test_whoever_leaves_another_administrator_behind_may_go(tenant: Client, mesh: Mesh, name: str) -> None:
    identity = f"user/{name}-bob"
    tenant.access.principals.create("users/bob", roles=["administrator"], spiffe_ids=[spiffe_id(identity)])
    tenant.access.principals.set_roles("users/admin", [])
    with client_of(mesh, identity, name) as bob:
        until(lambda: reason_of(lambda: bob.access.principals.delete("users/admin")) == "", 1.5)
        assert refusal(lambda: bob.access.principals.disable("users/bob")).reason == "POLICY_LOCKOUT"


def test_a_forbid_that_spares_the_administrator_is_accepted(tenant: Client, name: str) -> None:
    spared = f'{NO_ACCESS[:-1]} unless {{ principal == Strongroom::User::"accounts/{name}/users/admin" }};'
    assert tenant.access.policies.create("guard", spared, attached_to=[f"accounts/{name}"]).attached_to == (
        f"accounts/{name}",
    )
    # One that nobody could take back is not, though it forbids nothing else.
    itself = f'Strongroom::Policy::"accounts/{name}/policies/eternal"'
    eternal = f"forbid (principal, action, resource == {itself});"
    error = refusal(lambda: tenant.access.policies.create("eternal", eternal, attached_to=[f"accounts/{name}"]))
    assert error.reason == "POLICY_LOCKOUT"


@pytest.mark.parametrize("attempt", range(3))
def test_of_two_administrators_who_remove_each_other_at_once_one_stays(
    tenant: Client, mesh: Mesh, name: str, attempt: int
) -> None:
    identity = f"user/{name}-bob-{attempt}"
    tenant.access.principals.create("users/bob", roles=["administrator"], spiffe_ids=[spiffe_id(identity)])
    with client_of(mesh, identity, name) as bob, ThreadPoolExecutor(2) as pool:
        until(lambda: reason_of(bob.access.accounts.get) == "", 2.0)
        attempts = (
            pool.submit(reason_of, partial(tenant.access.principals.set_roles, "users/bob", [])),
            pool.submit(reason_of, partial(bob.access.principals.set_roles, "users/admin", [])),
        )
        first, second = sorted(attempt.result() for attempt in attempts)
    # Whoever came second was refused: by what the first had done, or because nobody would be left.
    assert first == ""
    assert second in ("POLICY_LOCKOUT", "PERMISSION_DENIED")
