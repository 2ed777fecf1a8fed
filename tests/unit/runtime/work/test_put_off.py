"""What is put off because its account has enough waiting, and when it comes up again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, cast

from services.runtime.work import due_work, put_off
from services.runtime.work.due_work import Aside, DueWork
from services.runtime.work.put_off import PutOff
from services.runtime.work.schedule import Claim
from tests.support.clocks import StillClock


class Times:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Schedule:
    """Stands for the one in Redis, and keeps what was asked of it."""

    def __init__(self, items: Iterable[str]) -> None:
        self.due = list(items)
        self.later_items: dict[str, float] = {}
        self.filled: list[set[str]] = []

    def fill(self, due_us: Mapping[str, int]) -> None:
        self.filled.append(set(due_us))
        self.due += [item for item in due_us if item in self.later_items]
        for item in due_us:
            self.later_items.pop(item, None)

    def claim(self, limit: int, _seconds: float) -> list[Claim]:
        taken, self.due = self.due[:limit], self.due[limit:]
        return [Claim(item, 1) for item in taken]

    def later(self, claim: Claim, seconds: float) -> bool:
        self.later_items[claim.item] = seconds
        return True

    def done(self, _: Claim) -> bool:
        return True


def test_an_item_is_put_off_until_its_time_or_until_it_is_taken() -> None:
    now = Times()
    items = PutOff(now)
    seconds = [items.add("a", f"a/{number}") for number in range(3)]
    items.add("b", "b/0")
    assert all(put_off._SECONDS / 2 <= each <= put_off._SECONDS * 1.5 for each in seconds)
    assert items.take("a", 1) == ["a/0"]
    items.remove("a/1")
    items.remove("never")
    assert items.items() == {"a/2", "b/0"}
    now.now = put_off._SECONDS * 1.5
    assert items.items() == set()
    assert items.take("a", 5) == []


def test_what_is_remembered_is_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr(put_off, "_REMEMBERED", 2)
    items = PutOff()
    for number in range(4):
        assert items.add("a", f"a/{number}") > 0
    items.add("a", "a/0")
    assert items.items() == {"a/0", "a/1"}
    items.remove("a/0")
    items.add("a", "a/5")
    assert items.items() == {"a/1", "a/5"}


def work_of(schedule: Schedule, done: list[str], overdue: Callable[[Collection[str]], list[Claim]]) -> DueWork:
    names = [f"hostile/{number}" for number in range(6)]

    def handle(claim: Claim) -> None:
        done.append(claim.item)

    return DueWork(
        cast(Any, schedule),
        lambda _: dict.fromkeys(names, 0),
        handle,
        StillClock(),
        overdue=lambda _before, _limit, in_hand: overdue(in_hand),
        aside=Aside(lambda item: item.split("/")[0], 1, 1),
    )


def test_what_an_account_has_beyond_its_queue_is_not_claimed_again_and_again(monkeypatch: Any) -> None:
    monkeypatch.setattr(due_work, "_ASIDE_LIMIT", 2)
    schedule = Schedule(f"hostile/{number}" for number in range(6))
    done: list[str] = []
    in_hand: set[str] = set()

    def overdue(items: Collection[str]) -> list[Claim]:
        in_hand.update(items)
        return []

    work = work_of(schedule, done, overdue)
    while work.work_once():
        pass
    put_off_items = {f"hostile/{number}" for number in range(2, 6)}
    assert set(schedule.later_items) == put_off_items
    # Neither what the database says is due nor what it says is overdue brings them up.
    work.fill()
    assert schedule.filled == [{"hostile/0", "hostile/1"}]
    assert not work.work_once()
    work.bring_forward()
    assert in_hand >= put_off_items


def test_one_that_is_done_is_followed_by_those_that_were_put_off_first(monkeypatch: Any) -> None:
    monkeypatch.setattr(due_work, "_ASIDE_LIMIT", 2)
    monkeypatch.setattr(due_work, "_FOLLOWING_WHERE_FEW_WAIT", 1)
    schedule = Schedule(f"hostile/{number}" for number in range(6))
    done: list[str] = []
    work = work_of(schedule, done, lambda _: [])
    aside = work._aside
    assert aside is not None
    for _ in range(6):
        while work.work_once():
            pass
        work._work_aside(aside)
    assert done == [f"hostile/{number}" for number in range(6)]
    assert schedule.later_items == {}
    assert work._put_off.items() == set()


def test_what_is_put_off_is_due_again_once_few_wait_or_somebody_wants_it_done(monkeypatch: Any) -> None:
    monkeypatch.setattr(due_work, "_ASIDE_LIMIT", 4)
    schedule = Schedule(f"hostile/{number}" for number in range(6))
    work = work_of(schedule, [], lambda _: [])
    aside = work._aside
    assert aside is not None
    while work.work_once():
        pass
    assert set(schedule.later_items) == {"hostile/4", "hostile/5"}
    work.hasten("hostile/5")
    assert work._put_off.items() == {"hostile/4"}
    # Another replica does what waits here, or an administrator ends it.
    aside.queue.end()
    work.fill()
    assert "hostile/4" in schedule.filled[-1]
