"""A disabled key is refused by every crypto worker within a second."""

from __future__ import annotations

import time
from contextlib import ExitStack

from strongroom import StrongroomError
from tests.clients import client_of
from tests.conftest import PrivateMeshes

PROMISE_SECONDS = 1.0
CLIENTS = 8


def test_a_disabled_key_is_refused_by_two_workers_within_a_second(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh(workers={"crypto": 2})
    with ExitStack() as stack:
        clients = [stack.enter_context(client_of(mesh)) for _ in range(CLIENTS)]
        clients[0].create_key("payments")
        workers = set()
        for client in clients:
            client.encrypt("payments", b"warm")
            workers.add(client.service_status("crypto").instance)
        assert len(workers) == 2

        clients[0].disable_key("payments")
        disabled = time.monotonic()
        last_use = disabled
        while time.monotonic() < disabled + 2 * PROMISE_SECONDS:
            for client in clients:
                try:
                    client.encrypt("payments", b"late")
                    last_use = time.monotonic()
                except StrongroomError as error:
                    assert error.reason == "KEY_DISABLED"

        assert last_use - disabled < PROMISE_SECONDS
