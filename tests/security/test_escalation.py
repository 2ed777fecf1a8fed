"""Nobody gives themselves, or others, more than they may; each attempt is refused, and is an event."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from deploy.dev.mesh import Mesh
from deploy.dev.topology import spiffe_id
from strongroom import Client
from tests.support.clients import client_of, reason_of, refusal, until

EVERYTHING = "permit (principal, action, resource);"
TRUST = 'permit (principal, action == Strongroom::Action::"access:AssumeRole", resource);'
# Tells when a new user's policy has reached the worker.
LOOK = 'permit (principal, action == Strongroom::Action::"access:GetAccount", resource);'

Person = Callable[..., Client]


@pytest.fixture
def person(tenant: Client, mesh: Mesh, name: str) -> Iterator[Person]:
    """Makes a user of the tenant's account who may do some actions, each on any resource or on those of one type."""
    with ExitStack() as stack:

        def make(person_id: str, **actions: str) -> Client:
            identity = f"user/{name}-{person_id}"
            tenant.create_principal(f"users/{person_id}", spiffe_ids=[spiffe_id(identity)])
            permits = [_permit(action, on) for action, on in actions.items()]
            text = "\n".join([LOOK, *permits])
            tenant.create_policy(f"of-{person_id}", text, attached_to=[f"users/{person_id}"])
            client = stack.enter_context(client_of(mesh, identity, name))
            until(lambda: reason_of(client.get_account) == "", 2.0)
            return client

        yield make


def _permit(action: str, on: str) -> str:
    resource = f"resource is Strongroom::{on}" if on else "resource"
    return f'permit (principal, action == Strongroom::Action::"access:{action}", {resource});'


def denied(work: Callable[[], object], auditor: Client) -> None:
    """It is refused, and the account's auditor finds the refusal."""
    error = refusal(work)
    assert error.reason == "PERMISSION_DENIED"
    assert auditor.get_event(error.event_id).outcome == "DENIED"


def test_who_may_write_policies_may_not_attach_them_to_themselves(tenant: Client, person: Person, name: str) -> None:
    eve = person("eve", CreatePolicy="", AttachPolicy="Policy")
    assert eve.create_policy("all", EVERYTHING).attached_to == ()
    denied(lambda: eve.create_policy("mine", EVERYTHING, attached_to=["users/eve"]), tenant)
    denied(lambda: eve.attach_policy("all", "users/eve"), tenant)
    denied(lambda: eve.attach_policy("all", f"accounts/{name}"), tenant)


def test_who_may_attach_to_people_may_not_take_policies_of_others_for_it(tenant: Client, person: Person) -> None:
    eve = person("eve", AttachPolicy="User")
    denied(lambda: eve.attach_policy("administrator", "users/eve"), tenant)


def test_a_policy_is_not_rewritten_by_whoever_has_it(tenant: Client, person: Person) -> None:
    eve = person("eve", UpdatePolicy="")
    assert eve.update_policy("of-eve", description="of Eve").description == "of Eve"
    denied(lambda: eve.update_policy("of-eve", cedar=EVERYTHING), tenant)
    # What nobody has gives nobody anything.
    tenant.create_policy("idle", LOOK)
    assert eve.update_policy("idle", cedar=EVERYTHING).attached_to == ()


def test_a_policy_that_forbids_is_not_taken_off_by_whom_it_forbids(tenant: Client, person: Person) -> None:
    eve = person("eve", DetachPolicy="User", GetPrincipal="")
    tenant.create_policy("guard", "forbid (principal, action, resource is Strongroom::Key);", attached_to=["users/eve"])
    denied(lambda: eve.detach_policy("guard", "users/eve"), tenant)
    denied(lambda: eve.delete_policy("guard"), tenant)


def test_what_forbids_is_taken_off_by_no_other_way(tenant: Client, person: Person) -> None:
    """Deleting detaches, another text takes back what the old one forbade, and who loses a role loses its forbids."""
    eve = person("eve", DeletePolicy="", UpdatePolicy="", AttachPolicy="", DeletePrincipal="")
    forbid = "forbid (principal, action, resource is Strongroom::Key);"
    tenant.create_principal("roles/bounded", trust_policy=TRUST)
    tenant.create_policy("guard", forbid, attached_to=["users/eve", "roles/bounded"])
    tenant.set_principal_roles("users/eve", ["bounded"])
    denied(lambda: eve.delete_policy("guard"), tenant)
    denied(lambda: eve.update_policy("guard", cedar=LOOK), tenant)
    denied(lambda: eve.delete_principal("roles/bounded"), tenant)
    # What is on nobody is taken off nobody.
    tenant.create_policy("idle", forbid)
    eve.delete_policy("idle")
    tenant.set_principal_roles("users/eve", [])
    eve.delete_principal("roles/bounded")


def test_a_role_is_given_by_who_may_give_it(tenant: Client, person: Person) -> None:
    eve = person("eve", SetPrincipalRoles="User", CreatePrincipal="")
    denied(lambda: eve.set_principal_roles("users/eve", ["administrator"]), tenant)
    denied(lambda: eve.create_principal("users/mallory", roles=["administrator"]), tenant)
    # Tags take part in decisions.
    denied(lambda: eve.create_principal("users/mallory", tags={"team": "root"}), tenant)
    assert eve.create_principal("users/mallory").roles == ()
    # To take a role away is not to give one.
    tenant.create_principal("roles/helper", trust_policy=TRUST)
    tenant.set_principal_roles("users/mallory", ["auditor", "helper"])
    assert len(eve.set_principal_roles("users/mallory", ["helper"]).roles) == 1


def test_nobody_becomes_another_by_what_that_one_is_known_by(tenant: Client, person: Person, name: str) -> None:
    eve = person("eve", CreatePrincipal="")
    mine = [spiffe_id(f"user/{name}-another")]
    denied(lambda: eve.update_principal("users/admin", spiffe_ids=mine), tenant)
    denied(lambda: eve.create_client_key("users/admin"), tenant)
    taken = [spiffe_id(f"user/{name}")]
    assert refusal(lambda: eve.create_principal("users/mallory", spiffe_ids=taken)).reason == "ALREADY_EXISTS"


def test_what_is_in_another_account_looks_like_what_does_not_exist(client: Client, tenant: Client, name: str) -> None:
    tenant.create_policy("present", EVERYTHING)
    tenant.create_oidc_provider("present", "https://cluster.example", ["a"])
    client_key = tenant.create_client_key("users/admin").client_key.name.rpartition("/")[2]
    looks: list[tuple[Callable[[str], object], str, str]] = [
        (client.get_policy, "policies/present", "policies/absent"),
        (client.delete_policy, "policies/present", "policies/absent"),
        (client.get_oidc_provider, "oidcProviders/present", "oidcProviders/absent"),
        (client.get_client_key, f"clientKeys/{client_key}", "clientKeys/absent"),
        (client.get_principal, "users/admin", "users/absent"),
        (client.delete_principal, "users/admin", "users/absent"),
        (client.create_client_key, "users/admin", "users/absent"),
        (client.get_quota, "users/admin", "users/absent"),
    ]
    for call, present, absent in looks:
        told = []
        for resource in (f"accounts/{name}/{present}", f"accounts/{name}/{absent}", f"accounts/nowhere/{present}"):
            error = refusal(partial(call, resource))
            told.append((error.reason, error.field, error.message.replace(resource, "it")))
        assert told[0][0] == "PERMISSION_DENIED"
        assert told == [told[0]] * 3


def test_an_account_does_not_reach_into_another(client: Client, tenant: Client, name: str) -> None:
    account = f"accounts/{name}"
    tenant.create_key("payments")
    client.create_policy(f"{name}-all", EVERYTHING)
    client.create_policy(f"{name}-keys", EVERYTHING, kind="RESOURCE")
    refused: list[Callable[[], object]] = [
        lambda: client.attach_policy(f"{name}-all", f"{account}/users/admin"),
        lambda: client.attach_policy(f"{name}-all", account),
        lambda: client.attach_policy(f"{name}-keys", f"{account}/keys/payments"),
        lambda: client.create_policy(f"{account}/policies/mine", EVERYTHING),
        lambda: client.create_principal(f"{account}/users/mine"),
        lambda: client.set_principal_roles(f"{account}/users/admin", []),
    ]
    for work in refused:
        assert refusal(work).reason == "PERMISSION_DENIED"
    with_their_role = partial(client.create_principal, f"users/{name}", roles=[f"{account}/roles/administrator"])
    assert refusal(with_their_role).reason == "FIELD_INVALID"
