"""The token goes away and comes back: callers are refused in bounded time meanwhile, and nobody restarts anything."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from deploy.dev import pkcs11_faults
from deploy.dev.pkcs11_faults import FunctionTable
from services.crypto.provider import HsmKey
from services.crypto.providers.pkcs11 import sessions
from services.crypto.providers.pkcs11.provider import Pkcs11Provider
from services.crypto.providers.pkcs11.sessions import SessionPool
from services.runtime.errors import Reason, StrongroomError
from strongroom import Client
from strongroom.keystore.v1 import key_pb2 as k
from tests.conftest import POSTGRES_SOFTHSM, PrivateMeshes
from tests.support import tokens
from tests.support.clients import client_of, reason_of, until
from tests.support.tokens import Token

# python-pkcs11 ends an operation when it is collected, and a token that fails just then has it complain to nobody.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

# What modules answer when they reach their HSM no more: a network HSM's the first two, a card's the next, one that was
# restarted or dropped its clients the last two.
CODES = {
    "device-error": pkcs11_faults.DEVICE_ERROR,
    "general-error": pkcs11_faults.GENERAL_ERROR,
    "device-removed": pkcs11_faults.DEVICE_REMOVED,
    "token-not-present": pkcs11_faults.TOKEN_NOT_PRESENT,
    "session-handle-invalid": pkcs11_faults.SESSION_HANDLE_INVALID,
    "user-not-logged-in": pkcs11_faults.USER_NOT_LOGGED_IN,
}
BACK_SECONDS = 10.0
# Longer than a caller may wait for a session.
BOUND_SECONDS = 5.0
CALLERS = 16
SIZE = 4


class Running:
    """A provider on a token, a key in it, and what was encrypted under that."""

    def __init__(self, token: Token, pool: SessionPool, provider: Pkcs11Provider) -> None:
        self.token, self.pool, self.provider = token, pool, provider
        self.table = FunctionTable(token.module)
        made = provider.make_hsm_key(k.KEY_SPEC_AES_256)
        self.key: HsmKey = provider.hsm_key(k.KEY_SPEC_AES_256, k.KEY_USAGE_ENCRYPT_DECRYPT, 1, made.wrapped)
        self.sealed = self.key.encrypt(b"before", b"")

    def works(self) -> bool:
        try:
            self.provider.check()
            return self.key.decrypt(self.sealed, b"") == b"before"
        except StrongroomError as error:
            assert error.reason is Reason.PROVIDER_UNAVAILABLE
            return False


@pytest.fixture(params=tokens.MODULES)
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    token = tokens.open_token(request.param, tmp_path)
    with tokens.provider_of(token, size=SIZE) as (pool, provider):
        yield Running(token, pool, provider)


@pytest.fixture
def on_softhsm(tmp_path: Path) -> Iterator[Running]:
    token = tokens.open_token(tokens.SOFTHSM, tmp_path)
    with tokens.provider_of(token, size=SIZE) as (pool, provider):
        yield Running(token, pool, provider)


def unavailable(work: Callable[[], object]) -> str:
    """The message with which `work` is refused as PROVIDER_UNAVAILABLE."""
    with pytest.raises(StrongroomError) as refused:
        work()
    assert refused.value.reason is Reason.PROVIDER_UNAVAILABLE
    return refused.value.message


def is_down(provider: Pkcs11Provider) -> bool:
    try:
        provider.check()
    except StrongroomError:
        return True
    return False


@pytest.mark.parametrize("code", CODES)
def test_an_outage_is_told_as_one_and_ends_by_itself(running: Running, code: str) -> None:
    with running.table.answering(CODES[code]):
        unavailable(lambda: running.key.encrypt(b"x", b""))
        # Not as a ciphertext that is not intact, which would be final.
        unavailable(lambda: running.key.decrypt(running.sealed, b""))
        unavailable(lambda: running.provider.unseal(1, bytes(40), b""))
        until(lambda: is_down(running.provider))
        unavailable(lambda: running.provider.make_root(2))
    until(running.works, BACK_SECONDS)


def test_one_thread_logs_in_again_whatever_many_callers_do(running: Running) -> None:
    stopping = threading.Event()
    outcomes: Counter[str] = Counter()
    longest: list[float] = []

    def call() -> None:
        slowest = 0.0
        while not stopping.is_set():
            started = time.monotonic()
            try:
                running.key.encrypt(b"x", b"")
                outcomes["OK"] += 1
            except StrongroomError as error:
                outcomes[error.reason] += 1
                time.sleep(0.001)
            except Exception as error:  # noqa: BLE001  # it is what must not come
                outcomes[repr(error)] += 1
            slowest = max(slowest, time.monotonic() - started)
        longest.append(slowest)

    callers = [threading.Thread(target=call, daemon=True) for _ in range(CALLERS)]
    with running.table.counting_logins() as logins:
        for caller in callers:
            caller.start()
        try:
            with running.table.answering(pkcs11_faults.DEVICE_ERROR):
                until(lambda: is_down(running.provider))
                time.sleep(0.2)
            until(running.works, BACK_SECONDS)
            before = outcomes["OK"]
            until(lambda: outcomes["OK"] > before + CALLERS)
        finally:
            stopping.set()
            for caller in callers:
                caller.join(BOUND_SECONDS)
    assert logins["C_Login"] == 1
    assert set(outcomes) == {"OK", "PROVIDER_UNAVAILABLE"}
    assert len(longest) == CALLERS
    assert max(longest) < BOUND_SECONDS


def test_callers_who_are_more_than_the_sessions_take_turns(running: Running) -> None:
    def call() -> int:
        return sum(len(running.key.encrypt(b"x", b"")) for _ in range(100))

    with ThreadPoolExecutor(CALLERS) as callers:
        # None of them is refused because others are faster.
        assert [one.result() for one in [callers.submit(call) for _ in range(CALLERS)]] == [2900] * CALLERS


def test_sessions_that_the_token_dropped_are_replaced(running: Running) -> None:
    for pooled in running.pool._connection._idle:  # type: ignore[union-attr]  # what no caller can reach
        running.table.succeed("C_CloseSession", pooled.session.handle)  # type: ignore[union-attr]
        pooled.used_at -= 60
    assert running.works()
    assert running.works()


def test_all_sessions_and_the_login_gone_is_healed(running: Running) -> None:
    slot = running.pool._connection._token.slot.slot_id  # type: ignore[union-attr]
    with running.table.counting_logins() as logins:
        running.table.succeed("C_CloseAllSessions", slot)
        until(lambda: logins["C_Login"] == 1, BACK_SECONDS)
        until(running.works, BACK_SECONDS)
    assert logins["C_Login"] == 1


def test_a_token_whose_objects_are_away_is_not_a_lost_key(on_softhsm: Running) -> None:
    away = on_softhsm.token.objects.with_name("away")
    on_softhsm.token.objects.rename(away)
    until(lambda: is_down(on_softhsm.provider), BACK_SECONDS)
    unavailable(lambda: on_softhsm.key.decrypt(on_softhsm.sealed, b""))
    # There again, and empty.
    on_softhsm.token.objects.mkdir()
    until(lambda: "no tokens fit token_label 'strongroom'" in unavailable(on_softhsm.provider.check))
    unavailable(lambda: on_softhsm.provider.unseal(1, bytes(40), b""))
    on_softhsm.token.objects.rmdir()
    away.rename(on_softhsm.token.objects)
    until(on_softhsm.works, BACK_SECONDS)


def test_a_refused_pin_is_not_tried_twice(running: Running) -> None:
    running.pool.close()
    with running.table.counting_logins() as logins, tokens.pool_of(running.token, pin="00000000wrong") as pool:
        assert "refuses the PIN" in unavailable(pool.check)
        time.sleep(1.5)
        for _ in range(CALLERS):
            with pytest.raises(StrongroomError), pool.session():
                pass
    assert logins["C_Login"] == 1


def test_a_pin_that_is_refused_on_the_way_back_is_not_tried_again(running: Running) -> None:
    with running.table.answering(0xA0, "C_Login") as logins:
        with running.table.answering(pkcs11_faults.DEVICE_REMOVED, "C_GetSessionInfo"):
            until(lambda: is_down(running.provider))
        until(lambda: logins["C_Login"] == 1, BACK_SECONDS)
        time.sleep(2)
        assert "refuses the PIN" in unavailable(running.provider.check)
    assert logins["C_Login"] == 1
    time.sleep(1)
    unavailable(running.provider.check)


def test_callers_wait_for_a_module_that_hangs_no_longer_than_for_a_session(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_SILENT_SECONDS", 1.0)
    hanging = threading.Event()

    def answer() -> int:
        hanging.wait(30)
        return pkcs11_faults.DEVICE_ERROR

    stuck = [threading.Thread(target=running.works, daemon=True) for _ in range(CALLERS)]
    with running.table.answering(answer, "C_GenerateRandom", "C_DecryptInit"):
        for thread in stuck:
            thread.start()
        until(lambda: is_down(running.provider))
        started = time.monotonic()
        assert "has not answered" in unavailable(running.provider.check)
        unavailable(lambda: running.key.encrypt(b"x", b""))
        assert time.monotonic() - started < BOUND_SECONDS
        # Those that are inside the module are as many as there are sessions, and no more.
        until(lambda: sum(thread.is_alive() for thread in stuck) <= SIZE, BOUND_SECONDS)
        hanging.set()
    until(running.works, BACK_SECONDS)


def test_a_running_service_tells_that_the_token_is_away_and_goes_on(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh(POSTGRES_SOFTHSM)
    objects = mesh.directory.hsm / "tokens"
    away = objects.with_name("away")

    def provider_of_crypto(client: Client) -> tuple[str, str]:
        status = next(service for service in client.mesh.status() if service.service == "crypto")
        component = next(one for one in status.components if one.name == "provider")
        return component.state, component.reason

    with client_of(mesh) as client:
        key = client.keys.create("in-token", protection_level="HSM").name
        sealed = client.encrypt(key, b"before").ciphertext
        pid = mesh.process("crypto").pid

        objects.rename(away)
        until(lambda: provider_of_crypto(client) == ("DOWN", "PROVIDER_UNAVAILABLE"), BACK_SECONDS)
        assert reason_of(lambda: client.decrypt(sealed)) == "PROVIDER_UNAVAILABLE"

        away.rename(objects)
        until(lambda: reason_of(lambda: client.decrypt(sealed)) == "", BACK_SECONDS)
        until(lambda: provider_of_crypto(client) == ("OK", ""), BACK_SECONDS)
        assert mesh.process("crypto").pid == pid


def test_metrics_count_calls_failures_and_reconnects(tmp_path: Path) -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("strongroom")
    token = tokens.open_token(tokens.SOFTHSM, tmp_path)
    with tokens.provider_of(token, size=SIZE, meter=meter) as (pool, provider):
        running = Running(token, pool, provider)
        with running.table.answering(pkcs11_faults.DEVICE_ERROR):
            unavailable(lambda: running.key.encrypt(b"x", b""))
            until(lambda: is_down(provider))
            assert values(reader, "hsm.connected") == {"": 0}
        until(running.works, BACK_SECONDS)
        with pool.session(), pool.session():
            assert values(reader, "hsm.sessions.in_use") == {"": 2}
        calls = values(reader, "hsm.calls")
        assert calls["OK"] >= 4
        assert calls["DeviceError"] >= 1
        assert values(reader, "hsm.reconnects")["OK"] == 1
        assert values(reader, "hsm.connected") == {"": 1}


def values(reader: InMemoryMetricReader, name: str) -> dict[str, float]:
    """A metric's values by outcome."""
    data = reader.get_metrics_data()
    assert data is not None
    return {
        str((point.attributes or {}).get("outcome", "")): point.value  # type: ignore[union-attr]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    }
