"""A disabled key, and a disabled version of a secret, are refused by every worker within a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from strongroom import Client, StrongroomError
from tests.conftest import PrivateMeshes
from tests.support.clients import client_of, reason_of

PROMISE_SECONDS = 1.0
CLIENTS = 8


def test_a_disabled_key_is_refused_by_two_workers_within_a_second(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh(workers={"crypto": 2})
    with ExitStack() as stack:
        clients = [stack.enter_context(client_of(mesh)) for _ in range(CLIENTS)]
        clients[0].keys.create("payments")
        for client in clients:
            client.encrypt("payments", b"warm")
        assert len({client.mesh.service_status("crypto").instance for client in clients}) == 2

        clients[0].keys.disable("payments")

        assert last_use(clients, lambda client: client.encrypt("payments", b"late"), "KEY_DISABLED") < PROMISE_SECONDS


def test_a_disabled_version_is_refused_at_once_where_it_was_disabled_and_by_another_worker_within_a_second(
    private_mesh: PrivateMeshes,
) -> None:
    mesh = private_mesh(workers={"secrets": 2})
    with ExitStack() as stack:
        clients = [stack.enter_context(client_of(mesh)) for _ in range(CLIENTS)]
        here = clients[0]
        here.secrets.create("payments", b"first")
        for client in clients:
            assert client.secrets.get_value("payments").value == b"first"
        assert len({client.mesh.service_status("secrets").instance for client in clients}) == 2

        here.secrets.put_value("payments", b"leaked")
        assert here.secrets.get_value("payments").value == b"leaked"
        time.sleep(PROMISE_SECONDS)
        for client in clients:
            assert client.secrets.get_value("payments").value == b"leaked"

        here.secrets.versions.disable("payments/versions/2")
        assert reason_of(lambda: here.secrets.get_value("payments")) == "SECRET_VERSION_DISABLED"

        late = last_use(clients, lambda client: client.secrets.get_value("payments"), "SECRET_VERSION_DISABLED")
        assert late < PROMISE_SECONDS


def last_use(clients: list[Client], use: Callable[[Client], object], reason: str) -> float:
    """How many seconds from now on some client could still do it, after which all are refused for `reason`."""
    began = last = time.monotonic()
    while time.monotonic() < began + 2 * PROMISE_SECONDS:
        for client in clients:
            try:
                use(client)
                last = time.monotonic()
            except StrongroomError as error:
                assert error.reason == reason
    return last - began
