"""The whole mesh on the listener in native code: everything that one service of it asks of another goes over that."""

from __future__ import annotations

import pytest

from deploy.dev.topology import SERVICES
from services.runtime import extension
from tests.conftest import PrivateMeshes
from tests.support.clients import client_of, reason_of, until


@pytest.mark.skipif(not extension.is_built(), reason="the native listener is not built (make native)")
def test_a_mesh_serves_records_and_ends_on_it(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh(settings={service: {"listeners": {"engine": "native"}} for service in SERVICES})
    with client_of(mesh) as client:
        key = client.keys.create("payments").name
        sealed = client.encrypt(key, b"a secret").ciphertext
        assert client.decrypt(sealed).plaintext == b"a secret"
        client.secrets.create("database", b"value")
        assert client.secrets.get_value("database").value == b"value"
        client.keys.disable(key)
        until(lambda: reason_of(lambda: client.encrypt(key, b"x")) == "KEY_DISABLED")
        found = {service.service: (service.attributes or {}).get("listener", "") for service in client.mesh.status()}
        assert all(listener.startswith("native ") for listener in found.values()), found
    assert {mesh.terminate(service) for service in SERVICES} == {0}
