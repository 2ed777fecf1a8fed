"""Processes that serve beside a mesh's own or in the place of one, with its configuration and database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from deploy.dev.errors import MeshError
from deploy.dev.mesh import Mesh
from deploy.dev.processes import Process
from deploy.dev.readiness import Readiness
from deploy.dev.topology import Listeners, free_listeners


@contextmanager
def serving(mesh: Mesh, service: str, process: Process, address: str, workers: int = 1) -> Iterator[None]:
    """Runs a process of a service, with so many workers at a public address, while it is wanted. Raises MeshError when
    it does not serve."""
    process.start()
    try:
        readiness = Readiness(
            service,
            address,
            mesh.trust,
            seconds=mesh.options.start_seconds,
            still_hopeful=lambda: process.running,
        )
        missing = readiness.missing(workers, process.pid)
        if missing is not None:
            raise MeshError(f"{process.name} {missing}\n{process.tail()}")
        yield
    finally:
        process.terminate()


@contextmanager
def replica(
    mesh: Mesh, service: str, number: int = 2, environment: Mapping[str, str] | None = None
) -> Iterator[Listeners]:
    """Another replica of a service, on listeners of its own, and where those are. Raises as `serving`."""
    listeners = free_listeners()
    prefix = f"STRONGROOM_{service.upper()}__LISTENERS__"
    process = mesh.process(service).like(
        f"{service}-{number}",
        environment={
            f"{prefix}PUBLIC__ADDRESS": listeners.public,
            f"{prefix}PUBLIC__CERTIFICATE_ADDRESS": listeners.certificate,
            f"{prefix}INTERNAL__ADDRESS": listeners.internal,
            **(environment or {}),
        },
    )
    with serving(mesh, service, process, listeners.public):
        yield listeners
