"""A client of the shared mesh, and a key of each test's own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from deploy.dev.mesh import Mesh
from strongroom import Client
from tests.clients import client_of


@pytest.fixture
def client(mesh: Mesh) -> Iterator[Client]:
    """The administrator, by certificate."""
    with client_of(mesh) as client:
        yield client


@pytest.fixture
def name() -> str:
    """An id that no other test uses."""
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
def key(client: Client, name: str) -> str:
    """The full name of a fresh SOFTWARE key."""
    return client.create_key(name).name
