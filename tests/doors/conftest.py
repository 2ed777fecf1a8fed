"""One mesh with its doors for every test here, and clients of them."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Iterator

import hvac
import pytest

from deploy.dev.doors import Doors
from deploy.dev.mesh import Mesh
from strongroom import Client
from tests.conftest import BEHIND_DOORS
from tests.support.clients import client_of

MOUNTS = {
    "secret": {"type": "kv-v2"},
    "kv": {"type": "kv-v1"},
    "transit": {"type": "transit"},
    "mariadb": {"type": "kv-v2", "prefix": "mariadb"},
}


@pytest.fixture(scope="session", params=[BEHIND_DOORS])
def mesh(mesh: Mesh) -> Mesh:
    """The mesh behind the doors. Leave its processes alone."""
    return mesh


@pytest.fixture(scope="session")
def doors(mesh: Mesh) -> Iterator[Doors]:
    """Doors with TLS."""
    with Doors(mesh, tls=True, settings={"vault": {"mounts": MOUNTS}}) as doors:
        yield doors


@pytest.fixture(scope="session")
def plain_doors(mesh: Mesh) -> Iterator[Doors]:
    """Doors without TLS, as `make run` has them."""
    settings = {"vault": {"mounts": MOUNTS, "listener": {"request_seconds": 2.0, "max_address_connections": 200}}}
    with Doors(mesh, settings=settings) as doors:
        yield doors


@pytest.fixture(scope="session")
def administrator(mesh: Mesh) -> Iterator[Client]:
    """The account's administrator, at the mesh itself."""
    with client_of(mesh) as client:
        yield client


@pytest.fixture(scope="session")
def token(plain_doors: Doors) -> str:
    """The administrator's token for the doors: a client key."""
    return plain_doors.token()


@pytest.fixture
def vault(mesh: Mesh, doors: Doors, token: str) -> Iterator[hvac.Client]:
    """A client of the door with TLS."""
    client = hvac.Client(url=doors.address, token=token, verify=str(mesh.authority.trust))
    yield client
    client.adapter.close()


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture(scope="session")
def tls_context(mesh: Mesh) -> ssl.SSLContext:
    """Trusts the mesh's authority."""
    return ssl.create_default_context(cafile=str(mesh.authority.trust))
