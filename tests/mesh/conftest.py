"""A client of the shared mesh, and a key of each test's own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing

import pytest

from deploy.dev.mesh import Mesh
from deploy.dev.topology import spiffe_id
from strongroom import Client
from tests.support.access import Rows
from tests.support.clients import client_of
from tests.support.rotation.fixtures import (  # noqa: F401
    acl_tls_server,
    certificate,
    client_keys,
    lab,
    make_lab,
    mesh_directory,
    mysql,
    mysql_tls_server,
    place,
    postgresql,
    postgresql_server,
    postgresql_tls_server,
    schedule_port,
    secret_id,
    sshd,
    subject_of,
    target_certificate,
    target_workers,
    team_rotator,
    tls,
)


@pytest.fixture
def client(mesh: Mesh) -> Iterator[Client]:
    """The administrator, by certificate."""
    with client_of(mesh) as client:
        yield client


@pytest.fixture
def rows(mesh: Mesh) -> Iterator[Rows]:
    """Rows of the shared mesh's keystore."""
    with closing(Rows(mesh)) as rows:
        yield rows


@pytest.fixture
def name() -> str:
    """An id that no other test uses."""
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
def tenant(client: Client, mesh: Mesh, name: str) -> Iterator[Client]:
    """The administrator of an account of the test's own, by certificate."""
    identity = f"user/{name}"
    client.access.accounts.create(name, administrator_spiffe_ids=[spiffe_id(identity)])
    with client_of(mesh, identity, name) as administrator:
        yield administrator


@pytest.fixture
def key(client: Client, name: str) -> str:
    """The full name of a fresh SOFTWARE key."""
    return client.keys.create(name).name
