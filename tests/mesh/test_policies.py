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
    tenant.create_principal("users/ann", spiffe_ids=[spiffe_id(identity)])
    with client_of(mesh, identity, name) as ann:
        yield ann


def test_an_attached_policy_permits_within_a_second_and_detached_no_more(tenant: Client, ann: Client) -> None:
    key = tenant.create_key("payments").name
    made = tenant.create_policy("use", USE, description="Use of keys")
    assert (made.kind, made.cedar, made.attached_to) == ("IDENTITY", USE, ())
    assert refusal(lambda: ann.encrypt(key, b"x")).reason == "PERMISSION_DENIED"

    attached = tenant.attach_policy("use", "users/ann")
    assert tenant.attach_policy("use", "users/ann").etag == attached.etag
    until(lambda: reason_of(lambda: ann.encrypt(key, b"x")) == "", 1.5)
    assert tenant.detach_policy("use", "users/ann").attached_to == ()
    until(lambda: reason_of(lambda: ann.encrypt(key, b"x")) == "PERMISSION_DENIED", 1.5)


def test_keystore_itself_decides_on_what_was_changed_a_moment_ago(tenant: Client, ann: Client) -> None:
    tenant.create_key("payments")
    tenant.create_policy("read", 'permit (principal, action == Strongroom::Action::"keystore:GetKey", resource);')
    for _ in range(10):
        tenant.attach_policy("read", "users/ann")
        assert reason_of(lambda: ann.get_key("payments")) == ""
        tenant.detach_policy("read", "users/ann")
        assert reason_of(lambda: ann.get_key("payments")) == "PERMISSION_DENIED"


def test_a_policy_on_the_account_is_everybodys(tenant: Client, ann: Client, name: str) -> None:
    key = tenant.create_key("payments").name
    tenant.create_policy("use", USE, attached_to=[f"accounts/{name}", "users/ann"])
    until(lambda: reason_of(lambda: ann.encrypt(key, b"x")) == "", 1.5)
    tenant.detach_policy("use", "users/ann")
    assert tenant.get_policy("use").attached_to == (f"accounts/{name}",)
    tenant.update_policy("use", cedar=NO_USE)
    until(lambda: reason_of(lambda: tenant.encrypt(key, b"x")) == "PERMISSION_DENIED", 1.5)


def test_a_policy_on_a_key_decides_within_a_second(tenant: Client, ann: Client, name: str) -> None:
    key = tenant.create_key("payments")
    other = tenant.create_key("other").name
    principal = f'Strongroom::User::"accounts/{name}/users/ann"'
    tenant.create_policy(
        "ann", f"permit (principal == {principal}, action, resource);", kind="RESOURCE", attached_to=["keys/payments"]
    )
    until(lambda: reason_of(lambda: ann.encrypt(key.name, b"x")) == "", 1.5)
    assert refusal(lambda: ann.encrypt(other, b"x")).reason == "PERMISSION_DENIED"
    # For keystore too.
    until(lambda: reason_of(lambda: ann.get_key(key.name)) == "", 1.5)
    # What is remembered of the key is of another revision.
    assert tenant.get_key(key.name).etag != key.etag
    tenant.update_policy("ann", cedar=NO_USE)
    until(lambda: reason_of(lambda: tenant.encrypt(key.name, b"x")) == "PERMISSION_DENIED", 1.5)
    tenant.delete_policy("ann")
    until(lambda: reason_of(lambda: tenant.encrypt(key.name, b"x")) == "", 1.5)


def test_a_policy_on_a_secret_decides_within_a_second(tenant: Client, ann: Client, name: str) -> None:
    tenant.create_key("strongroom-secrets")
    tenant.create_alias("strongroom-secrets", "strongroom-secrets")
    tenant.create_secret("password", b"s3cret")
    assert refusal(lambda: ann.get_secret_value("password")).reason == "PERMISSION_DENIED"
    read = 'action == Strongroom::Action::"secrets:GetSecretValue"'
    text = f'forbid (principal == Strongroom::User::"accounts/{name}/users/admin", {read}, resource);'
    tenant.create_policy("nobody", text, kind="RESOURCE", attached_to=["secrets/password"])
    until(lambda: reason_of(lambda: tenant.get_secret_value("password")) == "PERMISSION_DENIED", 1.5)
    tenant.delete_policy("nobody")
    until(lambda: reason_of(lambda: tenant.get_secret_value("password")) == "", 1.5)


def test_targets_must_be_there_and_of_the_policys_kind(tenant: Client, name: str) -> None:
    tenant.create_policy("identity", USE)
    tenant.create_policy("resource", USE, kind="RESOURCE")
    tenant.create_key("payments")
    assert refusal(lambda: tenant.attach_policy("identity", "users/nobody")).reason == "PRINCIPAL_NOT_FOUND"
    assert refusal(lambda: tenant.attach_policy("resource", "keys/none")).reason == "KEY_NOT_FOUND"
    for policy, target in (
        ("identity", "keys/payments"),
        ("resource", "users/admin"),
        ("resource", f"accounts/{name}"),
    ):
        error = refusal(partial(tenant.attach_policy, policy, target))
        assert (error.reason, error.field) == ("FIELD_INVALID", "target")
    error = refusal(lambda: tenant.create_policy("odd", USE, attached_to=["keys/payments"]))
    assert (error.reason, error.field) == ("FIELD_INVALID", "policy.attached_to")


def test_a_policy_is_checked_when_it_is_written(tenant: Client) -> None:
    text = f"{USE}\npermit (principal, action, resource) when {{ resource.colour == 1 }};"
    error = refusal(lambda: tenant.create_policy("odd", text))
    assert (error.reason, error.field, error.metadata["line"]) == ("POLICY_INVALID", "policy.cedar", "2")
    assert "colour" in error.metadata["error"]
    (first, *_) = tenant.validate_policy(text)
    assert (first.severity, first.line) == ("ERROR", 2)
    assert tenant.validate_policy(USE) == ()
    assert refusal(lambda: tenant.create_policy("odd", "")).reason == "FIELD_REQUIRED"
    assert refusal(lambda: tenant.create_policy("odd", USE + " " * 32_768)).reason == "FIELD_TOO_LARGE"
    stranger = 'permit (principal == Strongroom::User::"accounts/default/users/admin", action, resource);'
    assert refusal(lambda: tenant.create_policy("odd", stranger)).reason == "POLICY_INVALID"
    assert tenant.create_policy("even", stranger, kind="RESOURCE").kind == "RESOURCE"
    tenant.create_policy("use", USE)
    assert refusal(lambda: tenant.update_policy("use", cedar=text)).reason == "POLICY_INVALID"
    assert tenant.get_policy("use").cedar == USE


def test_policies_are_changed_listed_and_deleted(tenant: Client, name: str) -> None:
    first = tenant.create_policy("use", USE)
    described = tenant.update_policy("use", description="Use", etag=first.etag)
    assert (described.description, described.cedar) == ("Use", USE)
    assert refusal(lambda: tenant.update_policy("use", cedar=NO_USE, etag=first.etag)).reason == "ETAG_MISMATCH"
    assert refusal(lambda: tenant.delete_policy("use", etag=first.etag)).reason == "ETAG_MISMATCH"
    assert refusal(lambda: tenant.create_policy("use", USE)).field == "policy_id"
    tenant.create_key("payments")
    before = {policy.name.rpartition("/")[2] for policy in tenant.list_policies()}
    tenant.create_policy("on-key", USE, kind="RESOURCE", attached_to=["keys/payments"])

    def listed(condition: str) -> list[str]:
        return [policy.name.rpartition("/")[2] for policy in tenant.list_policies(condition)]

    assert listed("") == sorted({*before, "on-key"})
    assert listed("kind = RESOURCE") == ["on-key"]
    assert listed(f'attached_to = "accounts/{name}/keys/payments"') == ["on-key"]
    assert listed("id_prefix = a AND kind = IDENTITY") == ["administrator", "auditor"]
    tenant.delete_policy("use")
    assert refusal(lambda: tenant.get_policy("use")).reason == "POLICY_NOT_FOUND"
    # A policy's id is free again.
    assert tenant.create_policy("use", USE).name.endswith("/use")


def test_an_account_cannot_lock_itself_out(tenant: Client, name: str) -> None:
    account = f"accounts/{name}"
    tenant.create_policy("quiet", NO_ACCESS)
    for work in (
        lambda: tenant.delete_policy("administrator"),
        lambda: tenant.detach_policy("administrator", "roles/administrator"),
        lambda: tenant.update_policy("administrator", cedar=USE),
        lambda: tenant.create_policy("loud", NO_ACCESS, attached_to=[account]),
        lambda: tenant.attach_policy("quiet", "users/admin"),
        lambda: tenant.set_principal_roles("users/admin", ["auditor"]),
        lambda: tenant.disable_principal("users/admin"),
        lambda: tenant.delete_principal("users/admin"),
        lambda: tenant.delete_principal("roles/administrator"),
    ):
        assert refusal(work).reason == "POLICY_LOCKOUT"
    # Nothing of what was refused has stayed.
    assert tenant.get_principal("users/admin").roles == (f"{account}/roles/administrator", f"{account}/roles/auditor")
    assert refusal(lambda: tenant.get_policy("loud")).reason == "POLICY_NOT_FOUND"


def test_whoever_leaves_another_administrator_behind_may_go(tenant: Client, mesh: Mesh, name: str) -> None:
    identity = f"user/{name}-bob"
    tenant.create_principal("users/bob", roles=["administrator"], spiffe_ids=[spiffe_id(identity)])
    tenant.set_principal_roles("users/admin", [])
    with client_of(mesh, identity, name) as bob:
        until(lambda: reason_of(lambda: bob.delete_principal("users/admin")) == "", 1.5)
        assert refusal(lambda: bob.disable_principal("users/bob")).reason == "POLICY_LOCKOUT"


def test_a_forbid_that_spares_the_administrator_is_accepted(tenant: Client, name: str) -> None:
    spared = f'{NO_ACCESS[:-1]} unless {{ principal == Strongroom::User::"accounts/{name}/users/admin" }};'
    assert tenant.create_policy("guard", spared, attached_to=[f"accounts/{name}"]).attached_to == (f"accounts/{name}",)
    # One that nobody could take back is not, though it forbids nothing else.
    itself = f'Strongroom::Policy::"accounts/{name}/policies/eternal"'
    eternal = f"forbid (principal, action, resource == {itself});"
    error = refusal(lambda: tenant.create_policy("eternal", eternal, attached_to=[f"accounts/{name}"]))
    assert error.reason == "POLICY_LOCKOUT"


@pytest.mark.parametrize("attempt", range(3))
def test_of_two_administrators_who_remove_each_other_at_once_one_stays(
    tenant: Client, mesh: Mesh, name: str, attempt: int
) -> None:
    identity = f"user/{name}-bob-{attempt}"
    tenant.create_principal("users/bob", roles=["administrator"], spiffe_ids=[spiffe_id(identity)])
    with client_of(mesh, identity, name) as bob, ThreadPoolExecutor(2) as pool:
        until(lambda: reason_of(bob.get_account) == "", 2.0)
        attempts = (
            pool.submit(reason_of, partial(tenant.set_principal_roles, "users/bob", [])),
            pool.submit(reason_of, partial(bob.set_principal_roles, "users/admin", [])),
        )
        first, second = sorted(attempt.result() for attempt in attempts)
    # Whoever came second was refused: by what the first had done, or because nobody would be left.
    assert first == ""
    assert second in ("POLICY_LOCKOUT", "PERMISSION_DENIED")
