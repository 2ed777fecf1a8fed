"""Whatever targets send, all steps together take no more memory than the service was given for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import asyncssh
import psutil
import pytest
from opentelemetry.metrics import NoOpMeterProvider

from services.runtime.errors import StrongroomError
from services.runtime.requests.names import ResourceName
from services.secrets.rotation.rotators.failures import is_of_the_mesh
from services.secrets.rotation.rotators.rotator import RotationContext
from services.secrets.rotation.targets.places import StepPlaces
from services.secrets.rotation.targets.workers import StepLimits, TargetWorkers
from strongroom.secrets.v1 import secret_pb2 as s
from tests.security.test_hostile_targets import context, key_login, login, reason_of_step, rotator
from tests.support import hostile_servers as hostile

_AT_ONCE = 3


@pytest.fixture(scope="module")
def workers() -> Iterator[TargetWorkers]:
    limits = StepLimits(seconds=1.5, at_once=_AT_ONCE, share=2)
    found = TargetWorkers(limits, NoOpMeterProvider().get_meter("test"))
    rotator(s.SECRET_TYPE_REDIS_ACL, found).create(context(s.SECRET_TYPE_REDIS_ACL, 1), login())
    yield found
    found.close()


def of_account(account: str, port: int) -> RotationContext:
    found = context(s.SECRET_TYPE_MYSQL, port)
    return replace(found, secret=replace(found.secret, name=ResourceName(account, "secrets", "s")))


def test_steps_of_all_accounts_are_so_many_at_once_and_take_so_much(workers: TargetWorkers) -> None:
    seen: list[tuple[int, int]] = []
    done = threading.Event()

    def look() -> None:
        server = psutil.Process(workers.server_pid)
        while not done.wait(0.05):
            private = 0
            children = server.children()
            for child in children:
                try:
                    private += child.memory_full_info().uss
                except psutil.NoSuchProcess:
                    continue
            seen.append((len(children), private))

    looking = threading.Thread(target=look)
    with hostile.serving(hostile.endless) as port, ThreadPoolExecutor(18) as pool:
        looking.start()
        asked = rotator(s.SECRET_TYPE_MYSQL, workers)

        def step(number: int) -> str:
            return reason_of_step(lambda: asked.test(of_account(f"a{number % 6}", port), login()))

        reasons = set(pool.map(step, range(18)))
        done.set()
        looking.join()
    assert reasons <= {"TARGET_TIMEOUT", "TARGET_UNREACHABLE", "TARGET_ANSWER_TOO_LARGE", "OVERLOADED"}
    assert seen
    # One may be gone already and not be waited for yet.
    assert max(count for count, _ in seen) <= _AT_ONCE + 1
    assert max(private for _, private in seen) <= (_AT_ONCE + 1) * workers.limits.memory_bytes


def test_who_waits_gets_a_turn_beside_an_account_that_takes_what_it_can() -> None:
    places, release = StepPlaces(4, 2), threading.Event()
    holding = threading.Semaphore(0)

    def hold() -> None:
        with places.place("greedy", 60):
            holding.release()
            assert release.wait(60)

    with ThreadPoolExecutor(8) as pool:
        held = [pool.submit(hold) for _ in range(6)]
        for _ in range(2):
            assert holding.acquire(timeout=20)
        with places.place("other", 20):
            pass
        with pytest.raises(StrongroomError) as refused, places.place("greedy", 0.05):
            pass
        assert refused.value.reason == "OVERLOADED"
        # No rotation counts it as a failure.
        assert is_of_the_mesh(refused.value)
        release.set()
        for one in held:
            one.result(20)
    with places.place("greedy", 0.05):
        pass


@contextmanager
def ssh_server(host_key: asyncssh.SSHKey, compression: list[str]) -> Iterator[tuple[int, list[str]]]:
    """A port on which everybody is let in, and by which compression each connection sends."""
    used: list[str] = []

    class _Server(asyncssh.SSHServer):
        def connection_made(self, connection: asyncssh.SSHServerConnection) -> None:
            self._connection = connection

        def begin_auth(self, username: str) -> bool:
            used.append(str(self._connection.get_extra_info("send_compression")))
            return False

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> asyncssh.SSHAcceptor:
        return await asyncssh.create_server(
            _Server, "127.0.0.1", 0, server_host_keys=[host_key], compression_algs=compression
        )

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    try:
        yield server.get_port(), used
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


@pytest.mark.parametrize("offered", [["zlib@openssh.com", "none"], ["zlib@openssh.com"], ["zlib"]])
def test_nothing_is_inflated_for_a_target(workers: TargetWorkers, offered: list[str]) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    public = key.export_public_key("openssh").decode()
    with ssh_server(key, offered) as (port, used):
        told = context(s.SECRET_TYPE_SSH_KEY_PAIR, port, public)
        reason = reason_of_step(lambda: rotator(s.SECRET_TYPE_SSH_KEY_PAIR, workers).test(told, key_login(key)))
    assert (reason, used) == (("", ["none"]) if "none" in offered else ("TARGET_UNREACHABLE", []))
