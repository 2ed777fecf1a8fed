"""SIGKILL under load: what was acknowledged is there afterwards."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.dev.topology import SERVICES
from strongroom import Client, StrongroomError
from tests.conftest import VARIANTS, PrivateMeshes
from tests.support.clients import client_of

LOAD_SECONDS = 1.5
CALLERS = 3


class Load:
    """Callers that make keys, secrets and ciphertexts, and remember what was acknowledged."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stopping = threading.Event()
        self._callers = ThreadPoolExecutor(CALLERS)
        self.keys: list[str] = []
        self.secrets: dict[str, bytes] = {}
        self.sealed: dict[bytes, bytes] = {}
        self.events: list[str] = []
        self._work_of_each = [self._callers.submit(self._work, number) for number in range(CALLERS)]

    def stop(self) -> None:
        """Ends the callers. Raises what one of them ended with that no refusal was."""
        self._stopping.set()
        self._callers.shutdown()
        for work in self._work_of_each:
            work.result()

    def _work(self, caller: int) -> None:
        for number in itertools.count():
            if self._stopping.is_set():
                return
            try:
                self._once(f"load-{caller}-{number}")
            except StrongroomError:
                time.sleep(0.02)

    def _once(self, name: str) -> None:
        key = self._client.keys.create(name, timeout=2)
        self.keys.append(key.name)
        self.events.append(key.event_id)
        sealed = self._client.encrypt("payments", name.encode(), timeout=2)
        self.sealed[sealed.ciphertext] = name.encode()
        self.events.append(sealed.event_id)
        secret = self._client.secrets.create(name, name.encode(), timeout=2)
        self.secrets[secret.name] = name.encode()
        self.events.append(secret.event_id)


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_acknowledged_is_lost(private_mesh: PrivateMeshes, variant: str) -> None:
    mesh = private_mesh(variant)
    with client_of(mesh) as client:
        client.keys.create("payments")
        load = Load(client)
        try:
            for service in SERVICES:
                time.sleep(LOAD_SECONDS)
                mesh.kill(service)
                mesh.launch(service)
            time.sleep(LOAD_SECONDS)
        finally:
            load.stop()

        assert load.keys
        assert load.secrets
        assert set(load.keys) <= {key.name for key in client.keys.list()}
        for name, value in load.secrets.items():
            assert client.secrets.get_value(name).value == value
        for ciphertext, plaintext in load.sealed.items():
            assert client.decrypt(ciphertext).plaintext == plaintext
        kept = {event.id for event in client.audit.events.list()}
        assert set(load.events) <= kept
