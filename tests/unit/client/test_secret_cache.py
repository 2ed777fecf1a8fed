"""SecretCache: one fetch for many, refreshed ahead, stale within its bound, and never what was refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from strongroom import secret_cache
from strongroom.calls.secrets.records import SecretValue
from strongroom.errors import StrongroomError
from strongroom.secret_cache import SecretCache
from tests.support.clients import refusal, until

UNAVAILABLE = StrongroomError("UNREACHABLE", "away", code="UNAVAILABLE")


class Service:
    """Values that a test sets, and how often each was fetched."""

    def __init__(self) -> None:
        self.version = 1
        self.fetches = 0
        self.error: StrongroomError | None = None
        self.gate = threading.Event()
        self.gate.set()

    @property
    def secrets(self) -> Service:
        return self

    def get_value(self, secret: str, **_: Any) -> SecretValue:
        self.fetches += 1
        self.gate.wait(5)
        if self.error is not None:
            raise self.error
        name = f"accounts/a/secrets/{secret}/versions/{self.version}"
        return SecretValue(name, str(self.version).encode(), ("Current",), None)

    def watch(self, secrets: Sequence[str], *, resume_token: str = "") -> Any:
        raise AssertionError("these caches do not watch")


@contextmanager
def cached(service: Service, now: list[float]) -> Iterator[SecretCache]:
    with SecretCache(service, ttl=100, refresh_ahead=20, max_stale=50, watch=False, monotonic=lambda: now[0]) as cache:
        yield cache


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def cache(service: Service, now: list[float]) -> Iterator[SecretCache]:
    with cached(service, now) as cache:
        yield cache


def test_reads_within_the_ttl_ask_once(service: Service, cache: SecretCache, now: list[float]) -> None:
    for now[0] in (0, 40, 79):
        assert cache.get("s").value == b"1"
    assert service.fetches == 1


def test_concurrent_misses_make_one_fetch(service: Service, cache: SecretCache) -> None:
    service.gate.clear()
    with ThreadPoolExecutor(16) as pool:
        reads = [pool.submit(cache.get, "s") for _ in range(16)]
        until(lambda: service.fetches == 1)
        service.gate.set()
        assert {read.result().value for read in reads} == {b"1"}
    assert service.fetches == 1


def test_those_who_waited_for_a_fetch_that_failed_have_an_error_of_their_own_each(
    service: Service, cache: SecretCache
) -> None:
    service.gate.clear()
    service.error = UNAVAILABLE
    with ThreadPoolExecutor(16) as pool:
        reads = [pool.submit(cache.get, "s") for _ in range(16)]
        until(lambda: service.fetches == 1)
        service.gate.set()
        errors = [read.exception() for read in reads]
    assert {str(error) for error in errors} == {str(UNAVAILABLE)}
    assert len({id(error) for error in errors}) == len(errors)


def test_near_its_end_a_value_is_fetched_beside_the_reads(
    service: Service, cache: SecretCache, now: list[float]
) -> None:
    cache.get("s")
    service.version, now[0] = 2, 85
    assert cache.get("s").value == b"1"
    until(lambda: cache.get("s").value == b"2")
    assert service.fetches == 2


def test_a_value_is_answered_stale_within_its_bound_while_the_service_is_away(
    service: Service, cache: SecretCache, now: list[float]
) -> None:
    cache.get("s")
    service.error, now[0] = UNAVAILABLE, 120
    assert cache.get("s").value == b"1"
    now[0] = 151
    assert refusal(lambda: cache.get("s")).reason == "UNREACHABLE"
    service.error, service.version = None, 3
    assert cache.get("s").value == b"3"


def test_what_is_refused_is_never_answered_stale(service: Service, cache: SecretCache, now: list[float]) -> None:
    cache.get("s")
    service.error, now[0] = StrongroomError("SECRET_VERSION_DISABLED", "no", code="FAILED_PRECONDITION"), 101
    assert refusal(lambda: cache.get("s")).reason == "SECRET_VERSION_DISABLED"
    service.error = UNAVAILABLE
    assert refusal(lambda: cache.get("s")).reason == "UNREACHABLE"


def test_a_watch_that_ends_by_an_error_that_nobody_foresaw_is_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_cache, "_RETRY_SECONDS", 0.01)

    class Watched(Service):
        begun = 0

        def watch(self, secrets: Sequence[str], *, resume_token: str = "") -> Any:
            del secrets, resume_token
            self.begun += 1
            raise ValueError("meant")

    service = Watched()
    with SecretCache(service, ttl=100) as cache:
        cache.get("s")
        until(lambda: service.begun >= 3)
