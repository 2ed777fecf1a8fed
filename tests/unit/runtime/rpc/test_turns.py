"""Threads that serve callers in turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from services.runtime.rpc import turns as turns_module
from services.runtime.rpc.admission import Caller
from services.runtime.rpc.turns import Arrivals, Costs, Turns
from tests.support.clients import until


@dataclass(eq=False)
class Work:
    caller: Caller
    do: Callable[[], object] = lambda: None
    size: int = 0

    def run(self) -> None:
        self.do()


def caller(group: str, member: str = "one") -> Caller:
    return Caller(group, member, is_known=True)


class Held:
    """Turns of one thread, which is busy until `go`."""

    def __init__(self, *, waiting: int = 1000, waiting_bytes: int = 1 << 20) -> None:
        self.turns = Turns("test", threads=1, share=1, waiting=waiting, waiting_bytes=waiting_bytes)
        self.done: list[str] = []
        self._go = threading.Event()
        busy = threading.Event()

        def hold() -> None:
            busy.set()
            self._go.wait(10)

        self.turns.put(Work(caller("holder"), hold))
        assert busy.wait(10)

    def put(self, group: str, member: str = "one", size: int = 0) -> list[str]:
        """Whose had to give way."""
        work = Work(caller(group, member), lambda: self.done.append(f"{group}/{member}"), size)
        return [displaced.caller.group for displaced in self.turns.put(work)]

    def go(self, expected: int) -> list[str]:
        self._go.set()
        until(lambda: len(self.done) == expected)
        return self.done


def test_a_caller_with_many_calls_keeps_another_waiting_for_one_of_them() -> None:
    held = Held()
    for _ in range(50):
        held.put("greedy")
    held.put("victim")
    assert "victim/one" in held.go(51)[:2]


def test_within_a_group_its_members_take_turns_and_count_as_one_outside() -> None:
    held = Held()
    for number in range(20):
        held.put("greedy", str(number))
        held.put("greedy", "many")
    held.put("victim")
    done = held.go(41)
    assert "victim/one" in done[:2]
    assert done.index("greedy/19") < 25


def test_one_group_never_has_all_threads() -> None:
    turns = Turns("test", threads=4, share=3, waiting=100, waiting_bytes=1 << 20)
    go, answered = threading.Event(), threading.Event()
    for _ in range(20):
        turns.put(Work(caller("greedy"), lambda: go.wait(10)))
    turns.put(Work(caller("victim"), answered.set))
    assert answered.wait(10)
    go.set()


def test_work_that_waited_for_its_groups_share_is_done_in_the_end() -> None:
    turns = Turns("test", threads=8, share=2, waiting=1000, waiting_bytes=1 << 20)
    done: list[int] = []
    for number in range(500):
        turns.put(Work(caller(str(number % 3)), lambda number=number: done.append(number)))  # type: ignore[misc]
    until(lambda: len(done) == 500)


def test_where_too_much_waits_the_greediest_gives_way_and_not_the_newcomer() -> None:
    held = Held(waiting=10)
    assert not any(held.put("greedy") for _ in range(10))
    assert held.put("victim") == ["greedy"]
    assert held.put("greedy") == ["greedy"]
    assert held.go(10).count("victim/one") == 1


def test_what_waits_is_bounded_by_bytes_too() -> None:
    held = Held(waiting_bytes=100)
    assert held.put("greedy", size=40) == []
    assert held.put("greedy", size=40) == []
    assert held.put("victim", size=40) == ["greedy"]
    held.go(2)


def test_whoever_has_most_bytes_makes_room_for_them_and_small_calls_do_not() -> None:
    held = Held(waiting_bytes=100)
    assert not any(held.put("small", size=1) for _ in range(20))
    assert not any(held.put("large", size=10) for _ in range(8))
    assert held.put("large", size=10) == ["large"]
    assert held.put("other", size=25) == ["large"] * 3
    assert held.put("other", size=60) == ["other"]
    done = held.go(26)
    assert (done.count("small/one"), done.count("large/one"), done.count("other/one")) == (20, 5, 1)


def test_work_that_fails_costs_no_thread() -> None:
    turns = Turns("test", threads=1, share=1, waiting=10, waiting_bytes=1 << 20)
    done = threading.Event()
    turns.put(Work(caller("one"), lambda: 1 / 0))
    turns.put(Work(caller("one"), done.set))
    assert done.wait(10)


def test_threads_that_have_nothing_to_do_end_and_others_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "_IDLE_SECONDS", 0.01)
    turns = Turns("ending", threads=8, share=8, waiting=1000, waiting_bytes=1 << 20)
    done: list[int] = []

    def running() -> int:
        return sum(thread.name.startswith("ending-") for thread in threading.enumerate())

    for number in range(400):
        turns.put(Work(caller("a"), lambda: done.append(1)))
        if number % 7 == 0:
            # Some come just when threads end.
            time.sleep(0.01)
    until(lambda: len(done) == 400)
    until(lambda: running() == 1)
    together = threading.Barrier(8)
    for _ in range(8):
        turns.put(Work(caller("a"), lambda: together.wait(10)))
    until(lambda: running() == 1)
    assert not together.broken


def test_a_machine_without_threads_stops_no_pool_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns("starved", threads=2, share=2, waiting=1000, waiting_bytes=1 << 20)
    done: list[int] = []
    start = threading.Thread.start
    failures = iter([True] * 5)

    def starved(thread: threading.Thread) -> None:
        if thread.name.startswith("starved-") and next(failures, False):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starved)
    for _ in range(6):
        turns.put(Work(caller("a"), lambda: done.append(1)))
    until(lambda: len(done) == 6)


def test_a_group_whose_tasks_are_costly_has_few_threads() -> None:
    turns = Turns("test", threads=8, share=8, waiting=100, waiting_bytes=100 << 20, costly_share=1)
    running, most, ended, go = [0], [0], threading.Semaphore(0), threading.Event()

    def work() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        go.wait(10)
        running[0] -= 1
        ended.release()

    for _ in range(6):
        turns.put(Work(caller("large messages"), work, size=1 << 20))
    answered = threading.Event()
    turns.put(Work(caller("other"), answered.set))
    assert answered.wait(10)
    go.set()
    assert all(ended.acquire(timeout=10) for _ in range(6))
    assert most == [1]


def test_cheap_calls_do_not_hide_a_costly_one() -> None:
    now = [0.0]
    costs = Costs(lambda: now[0])
    assert not costs.are_costly("acme")
    costs.spent("acme", 0.05)
    for _ in range(50):
        costs.spent("acme", 0.0001)
    assert costs.are_costly("acme")
    assert not costs.are_costly("other")
    now[0] = 10.0
    assert not costs.are_costly("acme")


def test_many_calls_that_take_a_while_are_costly_together() -> None:
    now = [0.0]
    costs = Costs(lambda: now[0])
    for _ in range(20):
        now[0] += 0.1
        costs.spent("modest", 0.004)
        costs.spent("quick", 0.0009)
    assert not costs.are_costly("modest")
    for _ in range(20):
        now[0] += 0.005
        costs.spent("busy", 0.004)
        costs.spent("quick", 0.0009)
    assert costs.are_costly("busy")
    assert not costs.are_costly("quick")
    now[0] += 10.0
    costs.spent("busy", 0.004)
    assert not costs.are_costly("busy")


def test_calls_of_others_are_known_by_when_they_came() -> None:
    now = [0.0]
    arrivals = Arrivals(lambda: now[0])
    arrivals.note("a")
    assert not arrivals.of_others("a")
    assert arrivals.of_others("b")
    now[0] = 0.05
    arrivals.note("b")
    assert arrivals.of_others("a")
    assert arrivals.of_others("b")
    now[0] = 0.12
    assert arrivals.of_others("a")
    assert not arrivals.of_others("b")
    now[0] = 1.0
    assert not arrivals.of_others("a")


def busy(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_a_costly_group_rests_while_others_have_calls() -> None:
    turns = Turns("test", threads=4, share=4, waiting=1000, waiting_bytes=1 << 20, costly_share=1)
    done: list[float] = []
    stop = threading.Event()

    def work() -> None:
        busy(0.004)
        done.append(time.thread_time())
        if not stop.is_set():
            turns.put(Work(caller("busy"), work))

    for _ in range(4):
        turns.put(Work(caller("busy"), work))
    until(lambda: len(done) > 30)
    answered = threading.Semaphore(0)
    before, began = len(done), time.monotonic()
    while time.monotonic() - began < 1.0:
        turns.put(Work(caller("other"), answered.release))
        assert answered.acquire(timeout=10)
        stop.wait(0.01)
    # A fifth of the time, where it would have had nearly all of it.
    beside = len(done) - before
    stop.set()
    assert beside * 0.004 < 0.35
    turns.close()
