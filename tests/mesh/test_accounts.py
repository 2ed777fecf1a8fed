"""Accounts over a real mesh: what an administrator of the mesh makes, and what each account keeps to itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deploy.dev.mesh import Mesh
from deploy.dev.topology import spiffe_id
from strongroom import Client
from strongroom.access.v1 import access_service_pb2 as pb
from tests.support.clients import client_of, reason_of, refusal, until


def test_a_new_account_has_an_administrator_who_can_use_it(client: Client, mesh: Mesh, name: str) -> None:
    identity = f"user/{name}"
    made = client.access.accounts.create(
        name, display_name="A shop", tags={"plan": "gold"}, administrator_spiffe_ids=[spiffe_id(identity)]
    )

    assert (made.administrator, made.client_key) == (f"accounts/{name}/users/admin", "")
    assert (made.account.display_name, made.account.tags) == ("A shop", {"plan": "gold"})
    with client_of(mesh, identity, name) as administrator:
        assert administrator.access.whoami().principal == made.administrator
        assert administrator.access.accounts.get().name == f"accounts/{name}"
        listed = {policy.name.rpartition("/")[2] for policy in administrator.access.policies.list()}
        assert {"administrator", "auditor"} <= listed
        key = administrator.keys.create("payments").name
        assert administrator.decrypt(administrator.encrypt(key, b"x").ciphertext).plaintext == b"x"


def test_without_spiffe_ids_a_client_key_that_ends_soon_is_made(client: Client, name: str) -> None:
    made = client.access.accounts.create(name, administrator_id="root")
    assert made.administrator == f"accounts/{name}/users/root"
    assert made.client_key.startswith(f"accounts/{name}/clientKeys/")
    assert made.client_key_secret.startswith("strongroom_ck_")
    assert len(made.client_key_secret) == len("strongroom_ck_") + 52
    assert made.client_key_secret not in repr(made)


def test_an_account_is_created_once(client: Client, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "strongroom.calls.access.accounts.new_request_id", lambda: "00000000-0000-4000-8000-0000000acc07"
    )
    first = client.access.accounts.create(f"{name}-1")
    again = client.access.accounts.create(f"{name}-1")
    assert again.account.name == first.account.name
    # Nobody else could make another: whoever lost the first answer has it now.
    assert (again.client_key, again.client_key_secret) == (first.client_key, first.client_key_secret)
    assert refusal(lambda: client.access.accounts.create(f"{name}-2")).reason == "REQUEST_ID_REUSED"
    monkeypatch.undo()
    error = refusal(lambda: client.access.accounts.create(f"{name}-1"))
    assert (error.reason, error.field) == ("ALREADY_EXISTS", "account_id")


@pytest.mark.parametrize(
    "spiffe_id",
    ["spiffe://elsewhere.example/user/eve", "spiffe://strongroom.local/service/crypto", "https://strongroom.local/x"],
    ids=["another-domain", "a-service", "no-spiffe-id"],
)
def test_an_administrator_is_known_by_spiffe_ids_of_the_mesh_alone(client: Client, name: str, spiffe_id: str) -> None:
    error = refusal(lambda: client.access.accounts.create(name, administrator_spiffe_ids=[spiffe_id]))
    assert (error.reason, error.field) == ("FIELD_INVALID", "administrator_spiffe_ids")


def test_a_spiffe_id_stands_for_one_principal_of_the_mesh(client: Client, tenant: Client, name: str) -> None:
    taken = [spiffe_id(f"user/{name}")]
    assert (
        refusal(lambda: client.access.accounts.create(f"{name}-2", administrator_spiffe_ids=taken)).reason
        == "ALREADY_EXISTS"
    )
    # Nothing of the account that failed is left.
    assert client.access.accounts.create(f"{name}-2").account.name == f"accounts/{name}-2"
    assert (
        refusal(lambda: client.access.principals.create(f"users/{name}", spiffe_ids=taken)).field
        == "principal.spiffe_ids"
    )
    assert tenant.access.whoami().account == f"accounts/{name}"


def test_an_account_is_described_by_its_own_administrator(tenant: Client) -> None:
    before = tenant.access.accounts.get()
    changed = tenant.access.accounts.update(display_name="Shop", etag=before.etag)
    assert (changed.display_name, changed.tags) == ("Shop", {})
    assert tenant.access.accounts.update(tags={"plan": "gold"}).display_name == "Shop"
    assert refusal(lambda: tenant.access.accounts.update(display_name="x", etag=before.etag)).reason == "ETAG_MISMATCH"
    assert refusal(tenant.access.accounts.update).reason == "FIELD_REQUIRED"


def test_a_disabled_account_does_nothing_until_it_is_enabled(client: Client, tenant: Client, name: str) -> None:
    key = tenant.keys.create("payments").name
    assert client.access.accounts.disable(name).disabled
    assert client.access.accounts.disable(name).disabled
    until(lambda: reason_of(lambda: tenant.encrypt(key, b"x")) == "PRINCIPAL_DISABLED", 1.5)
    until(lambda: reason_of(tenant.access.accounts.get) == "PRINCIPAL_DISABLED", 1.5)
    assert not client.access.accounts.enable(name).disabled
    until(lambda: reason_of(lambda: tenant.encrypt(key, b"x")) == "", 1.5)


def test_the_account_of_the_meshs_administrators_cannot_be_disabled(client: Client) -> None:
    assert refusal(lambda: client.access.accounts.disable("default")).reason == "POLICY_LOCKOUT"
    assert not client.access.accounts.get().disabled


def test_accounts_are_listed_by_prefix_and_page(client: Client, name: str) -> None:
    made = [client.access.accounts.create(f"{name}-{letter}").account.name for letter in "abc"]
    assert [account.name for account in client.access.accounts.list(f"id_prefix = {name}-")] == made
    found: list[str] = []
    token = ""
    while True:
        request = pb.ListAccountsRequest(page_size=2, page_token=token, filter=f"id_prefix = {name}-")
        page = client.access._service.call(client.access._service.stub.ListAccounts, request, None).response
        found += [account.name for account in page.accounts]
        token = page.next_page_token
        if not token:
            break
    assert found == made


def test_only_administrators_of_the_mesh_keep_accounts(client: Client, tenant: Client, name: str) -> None:
    refused: list[Callable[[], object]] = [
        lambda: tenant.access.accounts.create(f"{name}-2"),
        lambda: list(tenant.access.accounts.list()),
        lambda: tenant.access.accounts.disable(name),
        lambda: tenant.access.accounts.enable(name),
    ]
    # And they get no access to what an account holds.
    tenant.keys.create("payments")
    refused += [
        lambda: client.keys.get(f"accounts/{name}/keys/payments"),
        lambda: client.access.accounts.get(name),
        lambda: client.access.principals.get(f"accounts/{name}/users/admin"),
    ]
    for work in refused:
        assert refusal(work).reason == "PERMISSION_DENIED"


def test_an_account_that_does_not_exist_is_not_found_by_those_who_may_know(client: Client, name: str) -> None:
    assert refusal(lambda: client.access.accounts.disable(name)).reason == "ACCOUNT_NOT_FOUND"
    assert refusal(lambda: client.access.accounts.get(name)).reason == "PERMISSION_DENIED"
