"""The connection is gone before the answer comes: a credential is not lost with it, and nobody is told "not there" of
what they have ended themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from deploy.dev.mesh import Mesh
from deploy.dev.topology import HOST, free_port
from strongroom import Client, ClientKeySession
from tests.support.clients import client_by, client_of, reason_of
from tests.support.cutting_proxy import CuttingProxy

# A call is one or two messages of the client's; where one is cut that is none of the call, nothing is lost by it.
MESSAGES = range(1, 5)


@pytest.fixture(scope="module")
def proxy(mesh: Mesh) -> Iterator[CuttingProxy]:
    """What stands between clients and keystore."""
    with CuttingProxy(free_port(), int(mesh.address("keystore", "certificate").split(":")[1])) as proxy:
        yield proxy


@pytest.fixture
def behind(mesh: Mesh, proxy: CuttingProxy) -> Iterator[Client]:
    with client_of(mesh, addresses={"keystore": f"{HOST}:{proxy.port}"}) as client:
        yield client


def test_an_account_is_never_without_its_only_credential(
    mesh: Mesh, behind: Client, proxy: CuttingProxy, name: str
) -> None:
    before = proxy.cuts
    for number in MESSAGES:
        proxy.cut_at(number, let_through=True)
        made = behind.access.accounts.create(f"{name}-{number}")
        with client_by(
            mesh, ClientKeySession(made.client_key, made.client_key_secret), account=f"{name}-{number}"
        ) as user:
            assert user.access.whoami().principal == made.administrator
    assert proxy.cuts > before


def test_a_client_key_comes_with_its_secret(mesh: Mesh, behind: Client, proxy: CuttingProxy, name: str) -> None:
    before = proxy.cuts
    for number in MESSAGES:
        principal = behind.access.principals.create(f"workloads/{name}-{number}").name
        proxy.cut_at(number, let_through=True)
        made = behind.access.client_keys.create(principal)
        assert [key.name for key in behind.access.client_keys.list(principal)] == [made.client_key.name]
        with client_by(mesh, ClientKeySession(made.client_key.name, made.secret)) as user:
            assert user.access.whoami().principal == principal
    assert proxy.cuts > before


def _principal(client: Client, name: str) -> Callable[[], object]:
    made = client.access.principals.create(f"workloads/{name}").name
    return lambda: client.access.principals.delete(made)


def _alias(client: Client, name: str) -> Callable[[], object]:
    made = client.keys.aliases.create(name, client.keys.create(f"{name}-key").name)
    return lambda: client.keys.aliases.delete(made.name)


def _key(client: Client, name: str) -> Callable[[], object]:
    made = client.keys.create(name).name
    return lambda: client.keys.schedule_deletion(made)


def _described(client: Client, name: str) -> Callable[[], object]:
    made = client.keys.create(name)
    return lambda: client.keys.update(made.name, "x", etag=made.etag)


@pytest.mark.parametrize("make", [_principal, _alias, _key, _described])
def test_what_was_done_is_not_refused_because_it_was_done(
    behind: Client, proxy: CuttingProxy, name: str, make: Callable[[Client, str], Callable[[], object]]
) -> None:
    for number in MESSAGES:
        change = make(behind, f"{name}-{number}")
        proxy.cut_at(number, let_through=True)
        assert reason_of(change) in ("", "UNREACHABLE")
