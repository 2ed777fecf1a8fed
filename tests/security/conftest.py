"""The clients, key and rows of the mesh tests."""

from __future__ import annotations

from tests.mesh.conftest import client, key, name, rows, tenant

__all__ = ["client", "key", "name", "rows", "tenant"]
