"""A crypto service of several workers, in the place of a mesh's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deploy.dev.mesh import Mesh
from deploy.dev.replicas import serving


@contextmanager
def crypto_workers(mesh: Mesh, count: int, cores: frozenset[int]) -> Iterator[None]:
    """Puts `count` crypto processes on `cores` in the place of the one, and ends them; crypto is away then."""
    mesh.terminate("crypto")
    process = mesh.process("crypto").like(f"crypto-{count}", "--workers", str(count), cpus=cores)
    with serving(mesh, "crypto", process, mesh.address("crypto", "public"), count):
        yield
