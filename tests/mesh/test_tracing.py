"""One trace runs through client, crypto, keystore and audit."""

from __future__ import annotations

from deploy.dev.mesh import Mesh
from strongroom.cli.trace import read_spans
from tests.support.clients import client_of, until

WAIT_SECONDS = 10.0
EVERYONE = {"strongroom-client", "strongroom-crypto", "strongroom-keystore", "strongroom-audit"}


def services_in(mesh: Mesh, trace_id: str) -> set[str]:
    return {span.service for span in read_spans(mesh.directory.traces, trace_id)}


def test_one_trace_runs_through_every_service(mesh: Mesh, name: str) -> None:
    with client_of(mesh, trace_directory=mesh.directory.traces) as client:
        key = client.keys.create(name).name
        # A crypto that does not know the key yet asks keystore for it.
        sealed = client.encrypt(key, b"plaintext")
        trace_id = client.last_trace_id
        event = client.audit.events.get(sealed.event_id)

    until(lambda: services_in(mesh, trace_id) >= EVERYONE, WAIT_SECONDS)
    assert event.trace_id == trace_id
