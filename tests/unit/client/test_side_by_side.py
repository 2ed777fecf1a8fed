"""Several things at a time, and what becomes of them when whoever asked for them presses Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from types import SimpleNamespace as Of
from typing import Any

import pytest

from strongroom.cli import rotations
from strongroom.cli.rotations import rotate
from strongroom.cli.side_by_side import side_by_side
from strongroom.errors import StrongroomError

SECRETS = [f"s{number}" for number in range(60)]


def test_nothing_begins_after_an_interruption() -> None:
    begun: list[int] = []

    def work(item: int, stopped: threading.Event) -> int:
        begun.append(item)
        if item:
            stopped.wait(30)
        return item

    def interrupted(_item: int, _future: Future[int]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        side_by_side(range(100), work, interrupted, 4)
    assert len(begun) <= 8


def test_everything_that_ends_is_told() -> None:
    told: list[tuple[int, int]] = []
    side_by_side(range(20), lambda item, _: item * 2, lambda item, future: told.append((item, future.result())), 3)
    assert sorted(told) == [(item, item * 2) for item in range(20)]


def rotation(state: str) -> Any:
    return Of(name="n", state=state, step="SET", attempts=[Of(error_reason="", start_time=datetime.now(UTC))])


def session(listed: Callable[[str], Any]) -> tuple[Any, list[str]]:
    begun: list[str] = []

    def start(secret: str) -> Any:
        begun.append(secret)
        return rotation("RUNNING")

    secrets = Of(rotate=start, rotations=Of(list=lambda secret, limit: listed(secret) if limit == 1 else None))
    return Of(client=Of(secrets=secrets), quiet=True), begun


def test_ctrl_c_begins_no_other_rotation(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(rotations, "_POLL_SECONDS", 0.01)

    def listed(secret: str) -> Any:
        return iter([rotation("SUCCEEDED" if secret == "s0" else "RUNNING")])

    asked, begun = session(listed)
    # Where the first that ends is told of, the user presses Ctrl-C.
    monkeypatch.setattr(Future, "result", interrupted_result)
    with pytest.raises(KeyboardInterrupt):
        rotate(asked, SECRETS, concurrency=5)
    assert len(begun) <= 10
    assert f"{len(begun)} of 60 rotations have begun" in capsys.readouterr().err


def interrupted_result(_self: Future[Any]) -> Any:
    raise KeyboardInterrupt


def test_a_rotation_that_cannot_be_followed_for_a_while_is_followed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotations, "_POLL_SECONDS", 0.01)
    answers = iter([StrongroomError("UNREACHABLE", "away", code="UNAVAILABLE"), rotation("SUCCEEDED")])

    def listed(_secret: str) -> Any:
        answer = next(answers)
        if isinstance(answer, StrongroomError):
            raise answer
        return iter([answer])

    asked, _ = session(listed)
    assert rotate(asked, ["s0"]).exit_code == 0


def test_one_that_can_no_longer_be_followed_is_not_told_as_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotations, "_POLL_SECONDS", 0.01)

    def listed(_secret: str) -> Any:
        raise StrongroomError("PERMISSION_DENIED", "no", code="PERMISSION_DENIED")

    asked, begun = session(listed)
    report = rotate(asked, ["s0"])
    (outcome,) = report.data["rotations"]
    assert (begun, outcome.outcome, report.exit_code) == (["s0"], "RUNNING", 3)
