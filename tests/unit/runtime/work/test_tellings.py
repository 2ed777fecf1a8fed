"""What stays so is told of once an hour."""

from __future__ import annotations

import time

import pytest

from services.runtime.work.tellings import AGAIN_SECONDS, Tellings


def test_a_thing_is_told_of_once_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    tellings: Tellings[str] = Tellings()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert tellings.untold(["a", "b"]) == ["a", "b"]
    now += AGAIN_SECONDS - 1
    assert tellings.untold(["a", "c"]) == ["c"]
    now += 1
    assert tellings.untold(["a", "c"]) == ["a"]


def test_what_was_told_of_takes_no_more_than_its_room() -> None:
    tellings: Tellings[int] = Tellings(most=2)
    assert tellings.untold([1, 2]) == [1, 2]
    assert tellings.untold([1, 2]) == []
    assert tellings.untold([3]) == [3]
    assert tellings.untold([1]) == [1]
