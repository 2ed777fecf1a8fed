"""A crypto service of several workers, in the place of a mesh's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.report import BenchmarkError
from deploy.dev.mesh import Mesh
from deploy.dev.readiness import Readiness


@contextmanager
def crypto_workers(mesh: Mesh, count: int, cores: frozenset[int]) -> Iterator[None]:
    """Puts `count` crypto processes on `cores` in the place of the one, and ends them; crypto is away then."""
    mesh.terminate("crypto")
    process = mesh.process("crypto").like(f"crypto-{count}", "--workers", str(count), cpus=cores)
    process.start()
    try:
        readiness = Readiness(
            "crypto",
            mesh.address("crypto", "public"),
            mesh.trust,
            seconds=mesh.options.start_seconds,
            still_hopeful=lambda: process.running,
        )
        missing = readiness.missing(count, process.pid)
        if missing is not None:
            raise BenchmarkError(f"crypto with {count} workers {missing}\n{process.tail()}")
        yield
    finally:
        process.terminate()
