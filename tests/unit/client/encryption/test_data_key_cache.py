"""The data key cache: its limits, what it does ahead, and what while the mesh is away."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from strongroom.encryption import DataKeyCache, EncryptionClient
from strongroom.errors import StrongroomError
from strongroom.files import FileEncryption
from tests.support.clients import until
from tests.support.mesh_keys import MeshKeys


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mesh() -> MeshKeys:
    return MeshKeys()


def encrypting(mesh: MeshKeys, cache: DataKeyCache) -> EncryptionClient:
    return EncryptionClient(mesh, keys="payments", cache=cache)


def test_a_data_key_ends_with_its_age(mesh: MeshKeys, clock: Clock) -> None:
    encryption = encrypting(mesh, DataKeyCache(max_age=60, refresh_ahead=0, monotonic=clock))
    encryption.encrypt(b"a")
    clock.now += 59.9
    encryption.encrypt(b"a")
    assert mesh.calls == 1
    clock.now += 0.1
    encryption.encrypt(b"a")
    assert mesh.calls == 2


@pytest.mark.parametrize("limits", [{"max_messages": 3}, {"max_bytes": 300}])
def test_a_data_key_serves_so_many_messages_and_bytes(mesh: MeshKeys, limits: dict[str, int]) -> None:
    cache = DataKeyCache(**limits)  # type: ignore[arg-type]
    encryption = encrypting(mesh, cache)
    heads = [encryption.encrypt(bytes(100))[:200] for _ in range(9)]
    until(lambda: not any(room._fetches for room in cache._all()), 20)
    assert max(heads.count(head) for head in heads) <= 3
    assert len(set(heads)) >= 3


def test_streams_count_when_they_end(mesh: MeshKeys) -> None:
    encryption = encrypting(mesh, DataKeyCache(max_bytes=1000))
    for _ in range(3):
        list(encryption.encrypt_pieces([bytes(300), bytes(400)]))
    assert mesh.calls == 2


@pytest.mark.parametrize(
    "decrypted",
    [
        lambda encryption, message: encryption.open_decrypting(io.BytesIO(message)).read(),
        lambda encryption, message: encryption.open_decrypting(Pipe(message)).read(),
        lambda encryption, message: b"".join(encryption.decrypt_pieces([message], keys=["payments"])),
    ],
    ids=["seekable", "pipe", "pieces"],
)
def test_streams_that_are_decrypted_count(
    mesh: MeshKeys, decrypted: Callable[[EncryptionClient, bytes], bytes]
) -> None:
    message = EncryptionClient(mesh, keys="payments").encrypt(bytes(700))
    encryption = encrypting(mesh, DataKeyCache(max_bytes=1000))
    for _ in range(3):
        assert decrypted(encryption, message) == bytes(700)
    assert mesh.calls == 3


def test_whole_files_count(mesh: MeshKeys) -> None:
    files = FileEncryption(mesh, "payments", cache=DataKeyCache(max_bytes=1000))
    for _ in range(3):
        sealed = io.BytesIO()
        files.encrypt(io.BytesIO(bytes(700)), sealed)
    assert mesh.calls == 2
    for _ in range(3):
        files.decrypt(io.BytesIO(sealed.getvalue()), io.BytesIO())
    assert mesh.calls == 4


def test_opentelemetry_shows_what_the_metrics_count(mesh: MeshKeys) -> None:
    reader = InMemoryMetricReader()
    cache = DataKeyCache(meter=MeterProvider([reader]).get_meter("test"))
    encryption = encrypting(mesh, cache)
    for _ in range(3):
        encryption.encrypt(b"a")
    told = reader.get_metrics_data()
    assert told is not None
    (scope,) = told.resource_metrics[0].scope_metrics
    shown: dict[str, int] = {}
    for metric in scope.metrics:
        (point,) = metric.data.data_points
        assert isinstance(point, NumberDataPoint)
        shown[metric.name.rpartition(".")[2]] = int(point.value)
    assert {metric.name.rpartition(".")[0] for metric in scope.metrics} == {"strongroom.data_key_cache"}
    assert shown == asdict(cache.metrics)
    assert (shown["hits"], shown["misses"], shown["entries"]) == (2, 1, 1)


def test_a_context_is_one_in_whatever_order_its_pairs_are(mesh: MeshKeys) -> None:
    encryption = encrypting(mesh, DataKeyCache())
    message = encryption.encrypt(b"a", {"a": "1", "b": "2"})
    encryption.encrypt(b"a", {"b": "2", "a": "1"})
    assert encryption.encrypt_at_hand(b"a", {"b": "2", "a": "1"}) is not None
    assert mesh.calls == 1
    for context in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"}):
        assert encryption.decrypt(message, context) == b"a"
    assert mesh.calls == 2
    encryption.encrypt(b"a", None)
    encryption.encrypt(b"a", {})
    assert list(encryption.encrypt_pieces([b"a"], {}))
    assert mesh.calls == 3
    with pytest.raises(StrongroomError, match="FIELD_INVALID"):
        encryption.encrypt(b"a", {"a": "1", 2: "b"})  # type: ignore[dict-item]


def test_many_threads_keep_the_limit(mesh: MeshKeys) -> None:
    encryption = encrypting(mesh, DataKeyCache(max_messages=10, refresh_ahead=0))
    with ThreadPoolExecutor(16) as pool:
        heads = [message[:200] for message in pool.map(lambda _: encryption.encrypt(b"a"), range(200))]
    assert max(heads.count(head) for head in heads) <= 10


def test_a_message_larger_than_the_limit_has_a_data_key_of_its_own(mesh: MeshKeys) -> None:
    encryption = encrypting(mesh, DataKeyCache(max_bytes=10))
    assert encryption.decrypt(encryption.encrypt(bytes(100))) == bytes(100)
    assert encryption.encrypt(bytes(100))[:200] != encryption.encrypt(bytes(100))[:200]


def test_concurrent_messages_without_a_data_key_make_one_call(mesh: MeshKeys) -> None:
    cache = DataKeyCache()
    encryption = encrypting(mesh, cache)
    mesh.before = lambda: until(lambda: cache.metrics.misses == 8)
    with ThreadPoolExecutor(8) as pool:
        messages = list(pool.map(lambda _: encryption.encrypt(b"a"), range(8)))
    assert mesh.calls == 1
    mesh.before = lambda: until(lambda: cache.metrics.misses == 16)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(encryption.decrypt, messages)) == {b"a"}
    assert mesh.calls == 2
    assert cache.metrics.hits == 0


def test_a_failure_is_told_to_all_that_waited_and_is_not_kept(mesh: MeshKeys) -> None:
    cache = DataKeyCache()
    encryption = encrypting(mesh, cache)
    mesh.is_away()
    mesh.before = lambda: until(lambda: cache.metrics.misses == 4)

    def reason(_: int) -> str:
        with pytest.raises(StrongroomError) as refused:
            encryption.encrypt(b"a")
        return refused.value.reason

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(reason, range(4))) == {"UNREACHABLE"}
    mesh.failure, mesh.before = None, lambda: None
    encryption.encrypt(b"a")


def test_a_data_key_is_replaced_ahead_of_its_end_and_nobody_waits(mesh: MeshKeys, clock: Clock) -> None:
    cache = DataKeyCache(max_age=60, refresh_ahead=10, monotonic=clock)
    encryption = encrypting(mesh, cache)
    first = encryption.encrypt(b"a")[:200]
    clock.now += 51
    gate = threading.Event()
    mesh.before = lambda: until(gate.is_set)
    assert encryption.encrypt(b"a")[:200] == first
    assert encryption.encrypt(b"a")[:200] == first
    gate.set()
    until(lambda: encryption.encrypt(b"a")[:200] != first, 20)
    assert (mesh.calls, cache.metrics.refreshes, cache.metrics.misses) == (2, 1, 1)


def test_a_data_key_is_replaced_before_its_bytes_are_used_up(mesh: MeshKeys) -> None:
    cache = DataKeyCache(max_bytes=10_000)
    encryption = encrypting(mesh, cache)
    first = encryption.encrypt(bytes(100))[:200]
    for _ in range(91):
        encryption.encrypt(bytes(100))
    until(lambda: mesh.calls == 2, 20)
    until(lambda: encryption.encrypt(b"a")[:200] != first, 20)
    assert cache.metrics.misses == 1


def test_where_no_thread_can_be_had_the_data_key_at_hand_serves_on(
    mesh: MeshKeys, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    encryption = encrypting(mesh, DataKeyCache(max_age=60, refresh_ahead=10, monotonic=clock))
    encryption.encrypt(b"a")
    clock.now += 51

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refused)
        encryption.encrypt(b"a")
    assert mesh.calls == 1
    clock.now += 10
    encryption.encrypt(b"a")
    assert mesh.calls == 2


def test_a_data_key_is_replaced_before_its_messages_are_used_up(mesh: MeshKeys) -> None:
    cache = DataKeyCache(max_messages=100)
    encryption = encrypting(mesh, cache)
    first = encryption.encrypt(b"a")[:200]
    for _ in range(91):
        encryption.encrypt(b"a")
    until(lambda: mesh.calls == 2, 20)
    until(lambda: encryption.encrypt(b"a")[:200] != first, 20)
    assert cache.metrics.misses == 1


def test_while_the_mesh_is_gone_messages_go_on_and_do_not_wait(mesh: MeshKeys, clock: Clock) -> None:
    cache = DataKeyCache(max_age=60, refresh_ahead=10, max_stale=120, monotonic=clock)
    encryption = encrypting(mesh, cache)
    message = encryption.encrypt(b"a")
    assert encryption.decrypt(message) == b"a"
    mesh.is_away()
    clock.now += 55
    while clock.now < 1000 + 60 + 119:
        failures = cache.metrics.failures
        while cache.metrics.failures < failures + 2:
            assert encryption.encrypt(b"a")[:200] == message[:200]
            assert encryption.decrypt(message) == b"a"
        clock.now += 5
    assert cache.metrics.stale > 10
    clock.now = 1000 + 60 + 121
    with pytest.raises(StrongroomError) as refused:
        encryption.encrypt(b"a")
    assert refused.value.reason == "UNREACHABLE"
    assert "crypto at kms:7443" in refused.value.message
    assert "strongroom status" in refused.value.message


def test_a_data_key_that_has_too_few_bytes_left_bridges_nothing(mesh: MeshKeys) -> None:
    encryption = encrypting(mesh, DataKeyCache(max_bytes=1000))
    encryption.encrypt(bytes(900))
    mesh.is_away()
    with pytest.raises(StrongroomError) as refused:
        encryption.encrypt(bytes(900))
    assert refused.value.reason == "UNREACHABLE"
    assert encryption.encrypt(bytes(50))


def test_what_the_mesh_refuses_is_not_bridged(mesh: MeshKeys, clock: Clock) -> None:
    encryption = encrypting(mesh, DataKeyCache(max_age=60, refresh_ahead=10, monotonic=clock))
    message = encryption.encrypt(b"a")
    encryption.decrypt(message)
    mesh.failure = StrongroomError("KEY_DISABLED", "the key is disabled", code="FAILED_PRECONDITION")
    clock.now += 61
    with pytest.raises(StrongroomError) as refused:
        encryption.encrypt(b"a")
    assert refused.value.reason == "KEY_DISABLED"
    with pytest.raises(StrongroomError) as refused:
        encryption.decrypt(message)
    assert refused.value.reason == "KEY_DISABLED"


def test_a_refusal_ahead_of_the_end_forgets_the_data_key(mesh: MeshKeys, clock: Clock) -> None:
    cache = DataKeyCache(max_age=60, refresh_ahead=10, monotonic=clock)
    encryption = encrypting(mesh, cache)
    encryption.encrypt(b"a")
    mesh.failure = StrongroomError("KEY_DISABLED", "the key is disabled", code="FAILED_PRECONDITION")
    clock.now += 55
    encryption.encrypt(b"a")
    until(lambda: cache.metrics.entries == 0, 20)
    with pytest.raises(StrongroomError):
        encryption.encrypt(b"a")


def test_clear_forgets_what_is_kept_and_what_is_on_its_way(mesh: MeshKeys) -> None:
    cache = DataKeyCache()
    encryption = encrypting(mesh, cache)
    encryption.encrypt(b"a")
    cache.clear()
    assert cache.metrics.entries == 0
    mesh.before = cache.clear
    encryption.encrypt(b"a")
    assert cache.metrics.entries == 0


def test_the_cache_is_no_larger_than_its_capacity(mesh: MeshKeys) -> None:
    cache = DataKeyCache(capacity=5)
    encryption = encrypting(mesh, cache)
    for tenant in range(12):
        encryption.encrypt(b"a", {"tenant": str(tenant)})
    assert (cache.metrics.entries, cache.metrics.evictions) == (5, 7)


def test_the_metrics_count_what_was_done(mesh: MeshKeys) -> None:
    cache = DataKeyCache()
    encryption = encrypting(mesh, cache)
    messages = [encryption.encrypt(b"a") for _ in range(5)]
    for message in messages:
        encryption.decrypt(message)
    metrics = cache.metrics
    assert (metrics.hits, metrics.misses, metrics.entries, metrics.failures) == (8, 2, 2, 0)
    cache.clear()
    assert cache.metrics.hits == 8


def test_clients_with_other_keys_or_callers_share_nothing() -> None:
    cache, one, other = DataKeyCache(), MeshKeys(), MeshKeys()
    heads = {
        encrypting(mesh, cache).encrypt(b"a")[:200] if key == "payments" else b""
        for mesh in (one, other)
        for key in ("payments",)
    }
    EncryptionClient(one, keys="escrow", cache=cache).encrypt(b"a")
    assert len(heads) == 2
    assert (one.calls, other.calls) == (2, 1)
