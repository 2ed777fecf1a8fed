"""How slots are shared out between accounts."""

from __future__ import annotations

from services.runtime.work.fair_queue import FairQueue


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def filled(slots: int, share: int, clock: Clock, **waiting: int) -> FairQueue[int]:
    queue: FairQueue[int] = FairQueue(slots, share, slow_seconds=5.0, now=clock)
    for account, count in waiting.items():
        for number in range(count):
            assert queue.put(account, number, 10_000)
    return queue


def taken(queue: FairQueue[int], count: int) -> list[str]:
    found = [queue.try_take() for _ in range(count)]
    return [each[0] if each is not None else "" for each in found]


def test_accounts_take_turns_however_many_items_one_has() -> None:
    queue = filled(4, 4, Clock(), many=1_000, few=2)
    assert taken(queue, 4) == ["many", "few", "many", "few"]


def test_an_account_never_has_more_than_its_share() -> None:
    queue = filled(8, 2, Clock(), many=1_000)
    assert taken(queue, 3) == ["many", "many", ""]
    assert queue.put("other", 1, 10)
    assert taken(queue, 1) == ["other"]


def test_an_account_whose_items_are_slow_has_one_slot_and_all_such_have_half() -> None:
    clock = Clock()
    queue = filled(4, 2, clock, slow1=9, slow2=9, slow3=9)
    assert taken(queue, 5) == ["slow1", "slow2", "slow3", "slow1", ""]
    clock.now = 6.0
    for account in ("slow1", "slow2", "slow3", "slow1"):
        queue.done(account)
    # Two of four slots, and never two of one.
    assert sorted(taken(queue, 4)) == ["", "", "slow2", "slow3"]
    assert queue.put("quick", 1, 10)
    assert taken(queue, 1) == ["quick"]


def test_an_account_that_was_slow_has_its_share_again_when_it_is_not() -> None:
    clock = Clock()
    queue = filled(4, 2, clock, one=9)
    assert taken(queue, 1) == ["one"]
    clock.now = 6.0
    queue.done("one")
    assert taken(queue, 2) == ["one", ""]
    clock.now = 7.0
    queue.done("one")
    assert taken(queue, 3) == ["one", "one", ""]


def test_what_exceeds_the_limit_of_an_account_is_not_taken_in() -> None:
    queue = filled(4, 2, Clock(), one=3)
    assert not queue.put("one", 4, 3)
    assert queue.put("other", 1, 3)


def test_what_waits_is_handed_back_at_the_end() -> None:
    queue = filled(4, 2, Clock(), one=3)
    assert queue.end() == [0, 1, 2]
    assert queue.take() is None
