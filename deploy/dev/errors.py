"""What can go wrong with the development mesh, for a person to read."""

from __future__ import annotations


class MeshError(Exception):
    """The mesh cannot start or go on; the message says why, with what a process that ended wrote last."""
