"""Encryption while the mesh answers slowly, fails over, or is gone for a minute, with data keys at hand and without."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from deploy.dev.mesh import Mesh
from deploy.dev.topology import free_port
from strongroom import Client
from strongroom.encryption import DataKeyCache, EncryptionClient
from tests.support.clients import client_of, refusal, until
from tests.support.cutting_proxy import CuttingProxy

HEAD = 200
"""Of a message: it tells its data key from others."""

AGE = 60.0
AHEAD = 10.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Warm:
    """A client whose cache has a data key for writing and one for reading."""

    def __init__(self, client: Client, key: str) -> None:
        self.clock = Clock()
        self.cache = DataKeyCache(max_age=AGE, refresh_ahead=AHEAD, max_stale=120, monotonic=self.clock)
        self._encryption = EncryptionClient(client, keys=key, cache=self.cache)
        self.first = self._encryption.encrypt(b"content")
        self.goes_on()

    def goes_on(self) -> None:
        """Reads what was written first, and writes more."""
        assert self._encryption.decrypt(self.first) == b"content"
        self.head()

    def head(self) -> bytes:
        return self._encryption.encrypt(b"more")[:HEAD]


@pytest.fixture
def key(client: Client, name: str) -> str:
    return client.keys.create(name).name


@pytest.fixture
def ways(mesh: Mesh) -> Iterator[tuple[CuttingProxy, CuttingProxy]]:
    """Two ways to crypto, each of which may fail."""
    target = int(mesh.address("crypto").rpartition(":")[2])
    with ExitStack() as open_ways:
        one, other = (open_ways.enter_context(CuttingProxy(free_port(), target)) for _ in range(2))
        yield one, other
        for way in (one, other):
            way.let_go()
            way.break_off()


def reaching(mesh: Mesh, *ways: CuttingProxy, timeout: float) -> Client:
    addresses = ",".join(f"127.0.0.1:{way.port}" for way in ways)
    return client_of(mesh, addresses={"crypto": addresses}, timeout=timeout)


def test_while_the_mesh_answers_slowly_a_warm_cache_does_not_wait_and_a_cold_one_does(
    mesh: Mesh, key: str, ways: tuple[CuttingProxy, CuttingProxy]
) -> None:
    way, _ = ways
    with reaching(mesh, way, timeout=30.0) as client, ThreadPoolExecutor(1) as pool:
        warm = Warm(client, key)
        way.hold()
        warm.clock.now += AGE - AHEAD + 1
        cold = pool.submit(EncryptionClient(client, keys=key).encrypt, b"content")
        for _ in range(50):
            warm.goes_on()
        assert warm.head() == warm.first[:HEAD]
        assert (warm.cache.metrics.misses, warm.cache.metrics.refreshes) == (2, 2)
        assert not cold.done()
        way.let_go()
        assert cold.result(30)
        until(lambda: warm.head() != warm.first[:HEAD], 20)
        warm.goes_on()
        assert warm.cache.metrics.misses == 2


def test_where_the_mesh_fails_over_both_go_on(mesh: Mesh, key: str, ways: tuple[CuttingProxy, CuttingProxy]) -> None:
    one, _ = ways
    with reaching(mesh, *ways, timeout=10.0) as client:
        warm = Warm(client, key)
        one.break_off()
        warm.goes_on()
        cold = EncryptionClient(client, keys=key)
        assert cold.decrypt(cold.encrypt(b"content")) == b"content"
        warm.clock.now += AGE - 1
        until(lambda: warm.head() != warm.first[:HEAD], 20)
        assert warm.cache.metrics.failures == 0


def test_while_the_mesh_is_gone_for_a_minute_a_warm_cache_goes_on_and_a_cold_one_says_where_and_what(
    mesh: Mesh, key: str, ways: tuple[CuttingProxy, CuttingProxy]
) -> None:
    with reaching(mesh, *ways, timeout=2.0) as client:
        warm = Warm(client, key)
        for way in ways:
            way.break_off()
        for _ in range(2):
            warm.clock.now += 35
            warm.goes_on()
        assert warm.head() == warm.first[:HEAD]
        assert warm.cache.metrics.stale > 0
        error = refusal(lambda: EncryptionClient(client, keys=key).encrypt(b"content"))
        assert error.code.name in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        assert all(str(way.port) in error.message for way in ways)
        assert key in error.message
        assert "strongroom status" in error.message
        for way in ways:
            way.refuses = False
        warm.clock.now += 2
        until(lambda: warm.head() != warm.first[:HEAD], 20)
        warm.goes_on()
