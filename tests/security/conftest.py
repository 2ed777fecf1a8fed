"""The same clients, key and rows as tests/mesh."""

from __future__ import annotations

from tests.mesh.conftest import client, key, name, rows, tenant

__all__ = ["client", "key", "name", "rows", "tenant"]
