"""Single calls of many threads as batches: an outcome each, and none waits long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from strongroom.calls.crypto.batches import Batch
from strongroom.calls.crypto.coalescing import Coalescer
from strongroom.errors import StrongroomError
from tests.support.clients import until


class Service:
    """Answers a number with its double; -1 is refused, and 0 refuses a whole batch."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.single = 0
        self.gate = threading.Event()
        self.gate.set()
        self.away = False

    def alone(self, number: int) -> int:
        self.single += 1
        assert self.gate.wait(20)
        return self._answer(number)

    def send(self, numbers: Sequence[int]) -> Batch[int]:
        self.batches.append(len(numbers))
        assert self.gate.wait(20)
        if self.away:
            raise StrongroomError("UNREACHABLE", "gone", code="UNAVAILABLE")
        if 0 in numbers:
            raise StrongroomError("PERMISSION_DENIED", "not you", code="PERMISSION_DENIED")
        return Batch(tuple(self._outcome(number) for number in numbers), "event")

    def _outcome(self, number: int) -> int | StrongroomError:
        try:
            return self._answer(number)
        except StrongroomError as error:
            return error

    def _answer(self, number: int) -> int:
        if self.away:
            raise StrongroomError("UNREACHABLE", "gone", code="UNAVAILABLE")
        if number == 0:
            raise StrongroomError("PERMISSION_DENIED", "not you", code="PERMISSION_DENIED")
        if number == -1:
            raise StrongroomError("CIPHERTEXT_INVALID", "it does not decrypt")
        return 2 * number


@pytest.fixture
def service() -> Service:
    return Service()


def caller(coalescer: Coalescer[int, int], service: Service, key: str = "key") -> Callable[[int], int | str]:
    def call(number: int) -> int | str:
        try:
            return coalescer.call(key, number, 10, 5.0, lambda: service.alone(number), service.send)
        except StrongroomError as error:
            return error.reason

    return call


def gathered(coalescer: Coalescer[int, int]) -> int:
    group = coalescer._gathering.get("key")
    return len(group.items) if group else 0


def test_a_lone_call_goes_alone_and_at_once(service: Service) -> None:
    call = caller(Coalescer(max_wait=20), service)
    began = time.monotonic()
    assert [call(number) for number in range(1, 6)] == [2, 4, 6, 8, 10]
    assert time.monotonic() - began < 10
    assert (service.single, service.batches) == (5, [])


def test_what_comes_while_a_call_is_under_way_goes_together(service: Service) -> None:
    coalescer: Coalescer[int, int] = Coalescer(max_wait=20)
    call = caller(coalescer, service)
    service.gate.clear()
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(call, 100)
        until(lambda: service.single == 1, 20)
        others = [pool.submit(call, number) for number in (1, 2, -1, 3)]
        until(lambda: gathered(coalescer) == 4, 20)
        service.gate.set()
        assert [one.result(20) for one in others] == [2, 4, "CIPHERTEXT_INVALID", 6]
        assert first.result(20) == 200
    assert service.batches == [4]
    assert not coalescer._gathering
    assert not coalescer._under_way


def test_nobody_waits_for_a_call_that_hangs(service: Service) -> None:
    call = caller(Coalescer(), service)
    service.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        hanging = pool.submit(call, 1)
        until(lambda: service.single == 1, 20)
        second = pool.submit(call, 2)
        until(lambda: service.single == 2, 20)
        service.gate.set()
        assert (hanging.result(20), second.result(20)) == (2, 4)


def test_a_refusal_of_the_whole_is_each_ones_own(service: Service) -> None:
    coalescer: Coalescer[int, int] = Coalescer(max_wait=20)
    call = caller(coalescer, service)
    service.gate.clear()
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(call, 100)
        until(lambda: service.single == 1, 20)
        others = [pool.submit(call, number) for number in (0, 1, -1)]
        until(lambda: gathered(coalescer) == 3, 20)
        service.gate.set()
        assert [one.result(20) for one in others] == ["PERMISSION_DENIED", 2, "CIPHERTEXT_INVALID"]
        assert first.result(20) == 200


def test_an_item_that_no_request_can_be_made_of_fails_alone(service: Service) -> None:
    coalescer: Coalescer[int, int] = Coalescer(max_wait=20)

    def send(numbers: Sequence[int]) -> Batch[int]:
        if -2 in numbers:
            raise TypeError("no message is made of this")
        return service.send(numbers)

    def call(number: int) -> int:
        def alone() -> int:
            return send([number]).outcomes[0] if number == -2 else service.alone(number)  # type: ignore[return-value]

        return coalescer.call("key", number, 10, 5.0, alone, send)

    service.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(call, 100)
        until(lambda: service.single == 1, 20)
        leader = pool.submit(call, 1)
        until(lambda: gathered(coalescer) == 1, 20)
        broken = pool.submit(call, -2)
        until(lambda: gathered(coalescer) == 2, 20)
        service.gate.set()
        assert [first.result(20), leader.result(20)] == [200, 2]
        with pytest.raises(TypeError):
            broken.result(20)


def test_a_service_that_is_away_is_not_asked_again_by_each(service: Service) -> None:
    coalescer: Coalescer[int, int] = Coalescer(max_wait=20)
    call = caller(coalescer, service)
    service.gate.clear()
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(call, 100)
        until(lambda: service.single == 1, 20)
        others = [pool.submit(call, number) for number in (1, 2, 3)]
        until(lambda: gathered(coalescer) == 3, 20)
        service.away = True
        service.gate.set()
        assert {one.result(20) for one in [first, *others]} == {"UNREACHABLE"}
    assert service.single == 1


def test_calls_of_other_keys_do_not_travel_together(service: Service) -> None:
    coalescer: Coalescer[int, int] = Coalescer(max_wait=20)
    service.gate.clear()
    with ThreadPoolExecutor(9) as pool:
        asked = [pool.submit(caller(coalescer, service, key), 1) for key in "abcd"]
        until(lambda: service.single == 4, 20)
        service.gate.set()
        assert [one.result(20) for one in asked] == [2, 2, 2, 2]


def test_a_batch_is_no_larger_than_a_request_may_be(service: Service) -> None:
    coalescer: Coalescer[int, int] = Coalescer(max_wait=20)
    service.gate.clear()
    with ThreadPoolExecutor(70) as pool:
        first = pool.submit(caller(coalescer, service), 1)
        until(lambda: service.single == 1, 20)
        calls = [
            pool.submit(coalescer.call, "key", 2, 65_536, 5.0, lambda: service.alone(2), service.send)
            for _ in range(60)
        ]
        until(lambda: gathered(coalescer) == 12, 20)
        service.gate.set()
        assert {one.result(20) for one in calls} == {4}
        assert first.result(20) == 2
    assert max(service.batches) == 48
    assert sum(service.batches) == 60


@pytest.mark.parametrize("size", [0, 65_537])
def test_what_a_batch_would_be_refused_for_goes_alone(service: Service, size: int) -> None:
    coalescer: Coalescer[int, int] = Coalescer()
    assert coalescer.call("key", 3, size, 5.0, lambda: service.alone(3), service.send) == 6


def test_many_threads_get_their_own_answers(service: Service) -> None:
    call = caller(Coalescer(), service)
    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(call, range(1, 3001))) == [2 * number for number in range(1, 3001)]
    assert service.single + sum(service.batches) == 3000


def test_a_signal_while_a_call_waits_for_others_stops_no_later_call(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    coalescer: Coalescer[int, int] = Coalescer(max_wait=20)
    call = caller(coalescer, service)
    service.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(call, 1)
        until(lambda: service.single == 1)

        def interrupted(*_: object) -> bool:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(threading.Event, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                call(2)
        service.gate.set()
        assert first.result(20) == 2
    assert call(3) == 6
    assert (coalescer._gathering, coalescer._under_way) == ({}, {})
