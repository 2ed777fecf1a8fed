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
            tenant.access.principals.create(f"users/{person_id}", spiffe_ids=[spiffe_id(identity)])
            permits = [_permit(action, on) for action, on in actions.items()]
            text = "\n".join([LOOK, *permits])
            tenant.access.policies.create(f"of-{person_id}", text, attached_to=[f"users/{person_id}"])
            client = stack.enter_context(client_of(mesh, identity, name))
            until(lambda: reason_of(client.access.accounts.get) == "", 2.0)
            return client

        yield make


def _permit(action: str, on: str) -> str:
    resource = f"resource is Strongroom::{on}" if on else "resource"
    return f'permit (principal, action == Strongroom::Action::"access:{action}", {resource});'


def denied(work: Callable[[], object], auditor: Client) -> None:
    """It is refused, and the account's auditor finds the refusal."""
    error = refusal(work)
    assert error.reason == "PERMISSION_DENIED"
    assert auditor.audit.events.get(error.event_id).outcome == "DENIED"


def test_who_may_write_policies_may_not_attach_them_to_themselves(tenant: Client, person: Person, name: str) -> None:
    eve = person("eve", CreatePolicy="", AttachPolicy="Policy")
    assert eve.access.policies.create("all", EVERYTHING).attached_to == ()
    denied(lambda: eve.access.policies.create("mine", EVERYTHING, attached_to=["users/eve"]), tenant)
    denied(lambda: eve.access.policies.attach("all", "users/eve"), tenant)
    denied(lambda: eve.access.policies.attach("all", f"accounts/{name}"), tenant)


def test_who_may_attach_to_people_may_not_take_policies_of_others_for_it(tenant: Client, person: Person) -> None:
    eve = person("eve", AttachPolicy="User")
    denied(lambda: eve.access.policies.attach("administrator", "users/eve"), tenant)


def test_a_policy_is_not_rewritten_by_whoever_has_it(tenant: Client, person: Person) -> None:
    eve = person("eve", UpdatePolicy="")
    assert eve.access.policies.update("of-eve", description="of Eve").description == "of Eve"
    denied(lambda: eve.access.policies.update("of-eve", cedar=EVERYTHING), tenant)
    # What nobody has gives nobody anything.
    tenant.access.policies.create("idle", LOOK)
    assert eve.access.policies.update("idle", cedar=EVERYTHING).attached_to == ()


def test_a_policy_that_forbids_is_not_taken_off_by_whom_it_forbids(tenant: Client, person: Person) -> None:
    eve = person("eve", DetachPolicy="User", GetPrincipal="")
    tenant.access.policies.create(
        "guard", "forbid (principal, action, resource is Strongroom::Key);", attached_to=["users/eve"]
    )
    denied(lambda: eve.access.policies.detach("guard", "users/eve"), tenant)
    denied(lambda: eve.access.policies.delete("guard"), tenant)


def test_what_forbids_is_taken_off_by_no_other_way(tenant: Client, person: Person) -> None:
    """Deleting detaches, another text takes back what the old one forbade, and who loses a role loses its forbids."""
    eve = person("eve", DeletePolicy="", UpdatePolicy="", AttachPolicy="", DeletePrincipal="")
    forbid = "forbid (principal, action, resource is Strongroom::Key);"
    tenant.access.principals.create("roles/bounded", trust_policy=TRUST)
    tenant.access.policies.create("guard", forbid, attached_to=["users/eve", "roles/bounded"])
    tenant.access.principals.set_roles("users/eve", ["bounded"])
    denied(lambda: eve.access.policies.delete("guard"), tenant)
    denied(lambda: eve.access.policies.update("guard", cedar=LOOK), tenant)
    denied(lambda: eve.access.principals.delete("roles/bounded"), tenant)
    # What is on nobody is taken off nobody.
    tenant.access.policies.create("idle", forbid)
    eve.access.policies.delete("idle")
    tenant.access.principals.set_roles("users/eve", [])
    eve.access.principals.delete("roles/bounded")


def test_a_role_is_given_by_who_may_give_it(tenant: Client, person: Person) -> None:
    eve = person("eve", SetPrincipalRoles="User", CreatePrincipal="")
    denied(lambda: eve.access.principals.set_roles("users/eve", ["administrator"]), tenant)
    denied(lambda: eve.access.principals.create("users/mallory", roles=["administrator"]), tenant)
    # Tags take part in decisions.
    denied(lambda: eve.access.principals.create("users/mallory", tags={"team": "root"}), tenant)
    assert eve.access.principals.create("users/mallory").roles == ()
    # To take a role away is not to give one.
    tenant.access.principals.create("roles/helper", trust_policy=TRUST)
    tenant.access.principals.set_roles("users/mallory", ["auditor", "helper"])
    assert len(eve.access.principals.set_roles("users/mallory", ["helper"]).roles) == 1


def test_nobody_becomes_another_by_what_that_one_is_known_by(tenant: Client, person: Person, name: str) -> None:
    eve = person("eve", CreatePrincipal="")
    mine = [spiffe_id(f"user/{name}-another")]
    denied(lambda: eve.access.principals.update("users/admin", spiffe_ids=mine), tenant)
    denied(lambda: eve.access.client_keys.create("users/admin"), tenant)
    denied(lambda: eve.access.principals.create("users/mallory", spiffe_ids=mine), tenant)
    taken = [spiffe_id(f"user/{name}")]
    binder = person("binder", CreatePrincipal="", BindIdentity="User")
    assert (
        refusal(lambda: binder.access.principals.create("users/mallory", spiffe_ids=taken)).reason == "ALREADY_EXISTS"
    )


def test_what_is_in_another_account_looks_like_what_does_not_exist(client: Client, tenant: Client, name: str) -> None:
    tenant.access.policies.create("present", EVERYTHING)
    tenant.access.oidc_providers.create("present", "https://cluster.example", ["a"])
    client_key = tenant.access.client_keys.create("users/admin").client_key.name.rpartition("/")[2]
    looks: list[tuple[Callable[[str], object], str, str]] = [
        (client.access.policies.get, "policies/present", "policies/absent"),
        (client.access.policies.delete, "policies/present", "policies/absent"),
        (client.access.oidc_providers.get, "oidcProviders/present", "oidcProviders/absent"),
        (client.access.client_keys.get, f"clientKeys/{client_key}", "clientKeys/absent"),
        (client.access.principals.get, "users/admin", "users/absent"),
        (client.access.principals.delete, "users/admin", "users/absent"),
        (client.access.client_keys.create, "users/admin", "users/absent"),
        (client.access.quotas.get, "users/admin", "users/absent"),
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
    tenant.keys.create("payments")
    client.access.policies.create(f"{name}-all", EVERYTHING)
    client.access.policies.create(f"{name}-keys", EVERYTHING, kind="RESOURCE")
    refused: list[Callable[[], object]] = [
        lambda: client.access.policies.attach(f"{name}-all", f"{account}/users/admin"),
        lambda: client.access.policies.attach(f"{name}-all", account),
        lambda: client.access.policies.attach(f"{name}-keys", f"{account}/keys/payments"),
        lambda: client.access.policies.create(f"{account}/policies/mine", EVERYTHING),
        lambda: client.access.principals.create(f"{account}/users/mine"),
        lambda: client.access.principals.set_roles(f"{account}/users/admin", []),
    ]
    for work in refused:
        assert refusal(work).reason == "PERMISSION_DENIED"
    with_their_role = partial(
        client.access.principals.create, f"users/{name}", roles=[f"{account}/roles/administrator"]
    )
    assert refusal(with_their_role).reason == "FIELD_INVALID"
