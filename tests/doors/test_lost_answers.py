"""What the door asks of the mesh is done once, also when the connection is gone before the answer comes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import hvac
import pytest

from deploy.dev.doors import Doors
from deploy.dev.mesh import Mesh
from deploy.dev.topology import HOST, free_port
from tests.doors.conftest import MOUNTS
from tests.support.cutting_proxy import CuttingProxy

# A call is one or two messages of the door's; where one is cut that is none of the call, nothing is lost by it.
MESSAGES = range(1, 7)


@pytest.fixture(scope="module")
def proxies(mesh: Mesh) -> Iterator[dict[str, CuttingProxy]]:
    """What stands between the door and each service."""
    with ExitStack() as stack:
        yield {
            service: stack.enter_context(
                CuttingProxy(free_port(), int(mesh.address(service, "internal").split(":")[1]))
            )
            for service in ("keystore", "secrets")
        }


@pytest.fixture(scope="module")
def vault(mesh: Mesh, proxies: dict[str, CuttingProxy], token: str) -> Iterator[hvac.Client]:
    upstream = {service: f"{HOST}:{proxy.port}" for service, proxy in proxies.items()}
    with Doors(mesh, settings={"upstream": upstream, "vault": {"mounts": MOUNTS}}) as doors:
        client = hvac.Client(url=doors.address, token=token)
        yield client
        client.adapter.close()


def test_a_value_is_put_once(vault: hvac.Client, proxies: dict[str, CuttingProxy], name: str) -> None:
    put = vault.secrets.kv.v2.create_or_update_secret
    put(path=name, secret={"n": 0})
    for number in MESSAGES:
        proxies["secrets"].cut_at(number, let_through=True)
        # It answers that it was put, and not that somebody else was quicker.
        assert put(path=name, secret={"n": number}, cas=number)["data"]["version"] == number + 1
    assert proxies["secrets"].cuts > 0


def test_a_secret_is_created_once(vault: hvac.Client, proxies: dict[str, CuttingProxy], name: str) -> None:
    for number in MESSAGES:
        proxies["secrets"].cut_at(number, let_through=True)
        made = vault.secrets.kv.v2.create_or_update_secret(path=f"{name}/{number}", secret={"n": number}, cas=0)
        assert made["data"]["version"] == 1


def test_a_key_is_rotated_once(vault: hvac.Client, proxies: dict[str, CuttingProxy], name: str) -> None:
    transit = vault.secrets.transit
    transit.create_key(name)
    for number in range(1, 4):
        proxies["keystore"].cut_at(number, let_through=True)
        transit.rotate_key(name)
        assert transit.read_key(name)["data"]["latest_version"] == number + 1


def test_a_key_is_deleted_and_says_so(vault: hvac.Client, proxies: dict[str, CuttingProxy], name: str) -> None:
    transit = vault.secrets.transit
    for number in range(1, 4):
        key = f"{name}-{number}"
        transit.create_key(key)
        transit.update_key_configuration(key, deletion_allowed=True)
        proxies["keystore"].cut_at(number, let_through=True)
        assert transit.delete_key(key).status_code == 204


def test_a_wrapped_answer_is_given_to_whoever_opens_it(
    vault: hvac.Client, proxies: dict[str, CuttingProxy], name: str
) -> None:
    vault.secrets.kv.v2.create_or_update_secret(path=name, secret={"of": name})
    for number in MESSAGES:
        token = vault.read(f"secret/data/{name}", wrap_ttl="60s")["wrap_info"]["token"]
        proxies["secrets"].cut_at(number, let_through=True)
        assert vault.sys.unwrap(token)["data"]["data"] == {"of": name}
