"""The same client and key as tests/mesh."""

from __future__ import annotations

from tests.mesh.conftest import client, key, name, tenant

__all__ = ["client", "key", "name", "tenant"]
