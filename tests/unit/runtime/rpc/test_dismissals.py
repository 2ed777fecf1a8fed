"""Calls that are refused a few at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from services.runtime.errors import Reason, StrongroomError
from services.runtime.rpc.dismissals import Dismissals
from tests.support.clients import until

ERROR = StrongroomError(Reason.OVERLOADED, "too many")


@contextmanager
def dismissing(limit: int = 1_000) -> Iterator[tuple[Dismissals[int], list[int]]]:
    ended: list[int] = []
    dismissals: Dismissals[int] = Dismissals("test", lambda call, _error: ended.append(call), limit)
    try:
        yield dismissals, ended
    finally:
        dismissals.stop()


def test_thousands_do_not_end_in_one_moment() -> None:
    with dismissing() as (dismissals, ended):
        began = time.monotonic()
        for call in range(100):
            dismissals.add(call, "stranger", ERROR)
        until(lambda: len(ended) == 100)
        # 50 rounds of two, with a pause after each: never sooner, however busy the machine is.
        assert time.monotonic() - began >= 49 * 0.01
        assert ended == list(range(100))


def test_groups_take_turns() -> None:
    with dismissing() as (dismissals, ended):
        for call in range(300):
            dismissals.add(call, "stranger", ERROR)
        dismissals.add(1_000, "tenant", ERROR)
        until(lambda: 1_000 in ended)
        assert len(dismissals) > 0


def test_urgent_ones_go_first() -> None:
    with dismissing() as (dismissals, ended):
        for call in range(200):
            dismissals.add(call, "stranger", ERROR)
        dismissals.add(1_000, "stranger", ERROR, urgent=True)
        until(lambda: 1_000 in ended)
        assert len(dismissals) > 0


def test_who_is_forgotten_is_let_be_and_who_finds_no_room_ends_at_once() -> None:
    with dismissing(limit=50) as (dismissals, ended):
        for call in range(50):
            dismissals.add(call, "stranger", ERROR)
        dismissals.forget(49)
        dismissals.add(50, "stranger", ERROR)
        if len(dismissals) == 50:
            dismissals.add(51, "stranger", ERROR)
            assert 51 in ended
        dismissals.hurry()
        until(lambda: not len(dismissals))
        assert 49 not in ended
        assert {*range(49), 50} <= set(ended)
