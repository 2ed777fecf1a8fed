"""The mesh as a whole, as access policies see it."""

from __future__ import annotations

from services.runtime.access.authorization import Resource


def mesh_resource(operator: str) -> Resource:
    """What calls for administrators of the mesh are on. It belongs to `operator`, the account that keystore was set up
    with."""
    return Resource("Service", "services/keystore", operator)
