"""Nobody becomes another account's workload by binding its SPIFFE id first."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from deploy.dev.mesh import Mesh
from deploy.dev.topology import spiffe_id
from strongroom import Client
from tests.support.clients import client_of, reason_of, refusal, until


@pytest.fixture
def mallory(mesh: Mesh, client: Client) -> Iterator[Client]:
    """The administrator of another account."""
    account = f"mallory-{secrets.token_hex(4)}"
    client.access.accounts.create(account, administrator_spiffe_ids=[spiffe_id(f"user/{account}")])
    with client_of(mesh, f"user/{account}", account) as administrator:
        yield administrator


def _whoami(mesh: Mesh, identity: str) -> str:
    with client_of(mesh, identity) as workload:
        try:
            return workload.access.whoami().principal
        except Exception as error:  # noqa: BLE001  # whatever it is told
            return getattr(error, "reason", repr(error))


def test_an_id_that_an_account_was_given_is_nobody_elses(
    mesh: Mesh, client: Client, tenant: Client, mallory: Client, name: str
) -> None:
    billing, free = f"workload/{name}/billing", f"workload/free-{name}/billing"
    given = [spiffe_id(f"user/{name}"), f"{spiffe_id(f'workload/{name}')}/"]
    assert client.access.accounts.update(name, spiffe_id_prefixes=given).spiffe_id_prefixes == tuple(given)
    # It is not told to whom an id was given, or that it was.
    for number, identity in enumerate((billing, free)):
        made = mallory.access.principals.create(f"workloads/w{number}", spiffe_ids=[spiffe_id(identity)])
        assert made.spiffe_ids == (spiffe_id(identity),)
    assert _whoami(mesh, billing) == "IDENTITY_UNKNOWN"
    own = tenant.access.principals.create("workloads/billing", spiffe_ids=[spiffe_id(billing)]).name
    assert _whoami(mesh, billing) == own


def test_the_meshs_administrator_takes_an_id_from_whoever_was_quicker(
    mesh: Mesh, client: Client, tenant: Client, mallory: Client, name: str
) -> None:
    billing = f"workload/{name}/billing"
    quicker = mallory.access.principals.create("workloads/w", spiffe_ids=[spiffe_id(billing)]).name
    own = tenant.access.principals.create("workloads/billing", spiffe_ids=[spiffe_id(billing)]).name
    assert _whoami(mesh, billing) == quicker
    client.access.accounts.update(name, spiffe_id_prefixes=[spiffe_id(f"user/{name}"), spiffe_id(billing)])
    until(lambda: _whoami(mesh, billing) == own, 2.0)


def test_an_account_gives_itself_nothing(tenant: Client, name: str) -> None:
    tenant.access.policies.create("more", "permit (principal, action, resource);", attached_to=["users/admin"])
    wanted = [f"{spiffe_id('workload')}/"]
    assert refusal(lambda: tenant.access.accounts.update(spiffe_id_prefixes=wanted)).reason == "PERMISSION_DENIED"
    assert tenant.access.accounts.get().spiffe_id_prefixes == (spiffe_id(f"user/{name}"),)
    # What does not name it leaves it.
    assert tenant.access.accounts.update(display_name="x").spiffe_id_prefixes == (spiffe_id(f"user/{name}"),)


@pytest.mark.parametrize(
    "prefix",
    ["spiffe://elsewhere/workload/", "spiffe://strongroom.local/service/", "spiffe://strongroom.local", "x/"],
)
def test_only_ids_of_the_mesh_are_given(client: Client, tenant: Client, name: str, prefix: str) -> None:
    error = refusal(lambda: client.access.accounts.update(name, spiffe_id_prefixes=[prefix]))
    assert (error.reason, error.field) == ("FIELD_INVALID", "account.spiffe_id_prefixes")
    assert reason_of(tenant.access.whoami) == ""
