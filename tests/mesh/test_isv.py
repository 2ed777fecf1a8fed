"""The ISV's story (docs/isv.md): a vendor works on a customer's key, sees nothing else, and is out when told to go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from deploy.dev.mesh import Mesh
from deploy.dev.topology import spiffe_id
from strongroom import AssumedRole, Client, ClientCertificate
from tests.support.clients import client_by, client_of, reason_of, refusal, until

EVERYTHING = "permit (principal, action, resource);"
EXTERNAL_ID = "acme-4711"
USE = '[Strongroom::Action::"crypto:GenerateDataKey", Strongroom::Action::"crypto:Decrypt"]'


@dataclass(frozen=True)
class Story:
    """The people of the story. `app` is the vendor's workload in the customer's role."""

    customer: Client
    auditor: Client
    vendor: Client
    app: Client
    role: str
    key: str

    def seal(self, row: bytes) -> tuple[bytes, bytes]:
        """A customer's row under a data key that the application keeps for many rows; the wrapped data key too."""
        made = self.app.generate_data_key(self.key, {"customer": "acme"})
        nonce = bytes(12)
        return nonce + AESGCM(made.plaintext).encrypt(nonce, row, None), made.ciphertext

    def open(self, sealed: bytes, wrapped: bytes, customer: str = "acme") -> bytes:
        data_key = self.app.decrypt(wrapped, {"customer": customer}).plaintext
        return AESGCM(data_key).decrypt(sealed[:12], sealed[12:], None)

    def is_in(self) -> bool:
        """Whether the vendor can use the key now."""
        return reason_of(lambda: self.app.generate_data_key(self.key, {"customer": "acme"})) == ""


@pytest.fixture
def story(client: Client, mesh: Mesh, name: str) -> Iterator[Story]:
    """A customer with a key and an auditor, and a vendor whose workload assumes a role for this customer."""
    acme, isv = f"{name}-acme", f"{name}-isv"
    with ExitStack() as stack:

        def member(account: str, who: str) -> Client:
            return stack.enter_context(client_of(mesh, f"{who}/{account}", account))

        for account in (acme, isv):
            client.access.accounts.create(account, administrator_spiffe_ids=[spiffe_id(f"admin/{account}")])
        customer, vendor = member(acme, "admin"), member(isv, "admin")
        customer.access.principals.create("users/auditor", spiffe_ids=[spiffe_id(f"auditor/{acme}")], roles=["auditor"])
        key = customer.keys.create("customer-data").name

        app = vendor.access.principals.create("workloads/app", spiffe_ids=[spiffe_id(f"app/{isv}")]).name
        trust = (
            'permit (principal, action == Strongroom::Action::"access:AssumeRole", resource)'
            f' when {{ principal == Strongroom::Workload::"{app}" && context.external_id == "{EXTERNAL_ID}" }};'
        )
        role = vendor.access.principals.create("roles/acme", trust_policy=trust).name
        assume = 'action == Strongroom::Action::"access:AssumeRole"'
        vendor.access.policies.create(
            "app", f'permit (principal, {assume}, resource == Strongroom::Role::"{role}");', attached_to=[app]
        )
        vendor.access.policies.create(
            "acme", f'permit (principal, action in {USE}, resource == Strongroom::Key::"{key}");', attached_to=[role]
        )
        files = mesh.authority.issue(f"app/{isv}")
        session = AssumedRole(
            ClientCertificate(files.certificate, files.key), role, "invoice-run-7", external_id=EXTERNAL_ID
        )
        yield Story(
            customer,
            member(acme, "auditor"),
            vendor,
            stack.enter_context(client_by(mesh, session, account=isv)),
            role,
            key,
        )


def permit(story: Story) -> str:
    """What the customer's administrator writes: this role, for this customer's rows alone."""
    return story.customer.access.policies.create(
        "vendor",
        f'permit (principal == Strongroom::Role::"{story.role}", action in {USE}, resource)'
        ' when { context.encryption_context.contains({key: "customer", value: "acme"}) };',
        kind="RESOURCE",
        attached_to=[story.key],
    ).name


def test_with_a_policy_on_the_key(story: Story) -> None:
    # As soon as the role can be assumed, it is the key that is refused.
    until(lambda: refusal(lambda: story.seal(b"row")).metadata["resource"] == story.key, 1.5)
    policy = permit(story)
    until(story.is_in, 1.5)

    # The vendor's application works on the customer's rows.
    sealed, wrapped = story.seal(b"invoice 1")
    assert story.open(sealed, wrapped) == b"invoice 1"

    # Another customer's context is refused, whatever the ciphertext.
    assert refusal(lambda: story.open(sealed, wrapped, "globex")).reason in ("PERMISSION_DENIED", "CIPHERTEXT_INVALID")
    assert refusal(lambda: story.app.generate_data_key(story.key, {"customer": "globex"})).reason == "PERMISSION_DENIED"
    assert refusal(lambda: story.app.encrypt(story.key, b"x", {"customer": "acme"})).reason == "PERMISSION_DENIED"

    # The customer's auditor sees every use, with the vendor's session.
    events = list(story.auditor.audit.events.list(resource=story.key, principal=story.role))
    uses = [event for event in events if event.outcome == "ALLOWED"]
    assert {(event.action, event.session_name) for event in uses} == {
        ("crypto:GenerateDataKey", "invoice-run-7"),
        ("crypto:Decrypt", "invoice-run-7"),
    }
    assert all(policy in event.decided_by for event in uses)
    assert {"DENIED"} < {event.outcome for event in events}
    assert all(event.encryption_context for event in uses)

    # The customer revokes: within a second the vendor is out, with keys that it had opened before too.
    story.customer.access.policies.delete("vendor")
    until(lambda: not story.is_in(), 1.0)
    assert refusal(lambda: story.open(sealed, wrapped)).reason in ("PERMISSION_DENIED", "CIPHERTEXT_INVALID")


def test_the_vendors_administrator_never_sees_the_customers_key_policy_or_events(story: Story) -> None:
    permit(story)
    until(story.is_in, 1.5)
    account = story.key.rpartition("/keys/")[0]
    vendor = story.vendor
    vendor.access.policies.create("all", EVERYTHING, attached_to=["users/admin"])
    attempts = {
        "key": lambda: vendor.keys.get(story.key),
        "policy": lambda: vendor.access.policies.get(f"{account}/policies/vendor"),
        "no policy": lambda: vendor.access.policies.get(f"{account}/policies/none"),
        "principal": lambda: vendor.access.principals.get(f"{account}/users/admin"),
        "use": lambda: vendor.encrypt(story.key, b"x"),
        "disable": lambda: vendor.keys.disable(story.key),
        "grants": lambda: list(vendor.access.grants.list(key=story.key)),
        "simulation": lambda: vendor.access.simulate(f"{account}/users/admin", "crypto:Encrypt", story.key),
        "policy change": lambda: vendor.access.policies.update(
            f"{account}/policies/vendor", cedar="permit (principal, action, resource);"
        ),
    }
    for attempt in attempts.values():
        assert refusal(attempt).reason == "PERMISSION_DENIED"
    event = next(story.auditor.audit.events.list(limit=1))
    assert refusal(lambda: vendor.audit.events.get(f"{account}/events/{event.id}")).reason == "PERMISSION_DENIED"


def test_with_a_grant_in_place_of_the_policy(story: Story) -> None:
    grant = story.customer.access.grants.create(
        story.key,
        story.role,
        ["crypto:GenerateDataKey", "crypto:Decrypt"],
        context_contains={"customer": "acme"},
        description="the vendor's invoices",
    )
    until(story.is_in, 1.5)
    sealed, wrapped = story.seal(b"invoice 1")
    assert story.open(sealed, wrapped) == b"invoice 1"
    assert refusal(lambda: story.app.generate_data_key(story.key, {"customer": "globex"})).reason == "PERMISSION_DENIED"
    used = next(
        story.auditor.audit.events.list(resource=story.key, outcome="ALLOWED", action="crypto:Decrypt", limit=1)
    )
    assert grant.name in used.decided_by
    story.customer.access.grants.revoke(grant.name)
    until(lambda: not story.is_in(), 1.0)


def test_a_storage_service_acts_through_a_grant_for_each_disk(story: Story) -> None:
    actions = ["crypto:GenerateDataKey", "crypto:Decrypt", "access:RetireGrant"]
    attached = {
        disk: story.customer.access.grants.create(story.key, story.role, actions, context_equals={"disk": disk}).name
        for disk in ("disk-1", "disk-2")
    }

    def attach(disk: str) -> bytes:
        return story.app.generate_data_key(story.key, {"disk": disk}).ciphertext

    for disk in attached:
        until(lambda disk=disk: reason_of(partial(attach, disk)) == "", 1.5)  # type: ignore[misc]
    wrapped = {disk: attach(disk) for disk in attached}
    assert refusal(lambda: attach("disk-3")).reason == "PERMISSION_DENIED"
    assert story.app.decrypt(wrapped["disk-2"], {"disk": "disk-2"}).plaintext

    # The disk is detached: the service gives back its grant, and the other disk works on.
    story.app.access.grants.retire(attached["disk-1"])
    until(lambda: reason_of(lambda: story.app.decrypt(wrapped["disk-1"], {"disk": "disk-1"})) != "", 1.0)
    assert story.app.decrypt(wrapped["disk-2"], {"disk": "disk-2"}).plaintext


def test_who_does_not_know_the_external_id_does_not_get_the_role(story: Story, mesh: Mesh) -> None:
    account = story.role.split("/")[1]
    with client_of(mesh, f"app/{account}", account) as app:
        until(
            lambda: reason_of(lambda: app.access.sessions.assume_role(story.role, "s", external_id=EXTERNAL_ID)) == "",
            1.5,
        )
        assert (
            refusal(lambda: app.access.sessions.assume_role(story.role, "s", external_id="globex-1")).reason
            == "PERMISSION_DENIED"
        )
        assert refusal(lambda: app.access.sessions.assume_role(story.role, "s")).reason == "PERMISSION_DENIED"
