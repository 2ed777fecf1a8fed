"""Further replicas of a mesh's services, with its configuration and database and listeners of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from deploy.dev.errors import MeshError
from deploy.dev.mesh import Mesh
from deploy.dev.readiness import Readiness
from deploy.dev.topology import Listeners, free_listeners


@contextmanager
def replica(
    mesh: Mesh, service: str, number: int = 2, environment: Mapping[str, str] | None = None
) -> Iterator[Listeners]:
    """Another replica of a service, and where it listens, while it is wanted. Raises MeshError when it serves not."""
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
    process.start()
    try:
        readiness = Readiness(
            service,
            listeners.public,
            mesh.trust,
            seconds=mesh.options.start_seconds,
            still_hopeful=lambda: process.running,
        )
        missing = readiness.missing(1, process.pid)
        if missing is not None:
            raise MeshError(f"{process.name} {missing}\n{process.tail()}")
        yield listeners
    finally:
        process.terminate()
