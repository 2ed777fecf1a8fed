"""Commands that wait until a secret's target has been tried out."""

from __future__ import annotations

import pytest

from strongroom.cli import targets
from strongroom.errors import StrongroomError


def failing(*reasons: str) -> StrongroomError:
    return StrongroomError(reasons[0], "of the target", retry_after_seconds=0.001)


def test_a_call_is_made_again_until_the_target_has_answered() -> None:
    answers: list[StrongroomError | str] = [failing("TARGET_CHECK_PENDING"), failing("TARGET_CHECK_PENDING"), "made"]

    def call() -> str:
        answer = answers.pop(0)
        if isinstance(answer, StrongroomError):
            raise answer
        return answer

    assert targets.once_checked(call) == "made"


def test_what_the_target_answered_is_told_at_once() -> None:
    calls: list[int] = []

    def call() -> None:
        calls.append(1)
        raise failing("TARGET_LOGIN_REFUSED")

    with pytest.raises(StrongroomError, match="of the target"):
        targets.once_checked(call)
    assert len(calls) == 1


def test_nobody_waits_for_ever() -> None:
    def call() -> None:
        raise failing("TARGET_CHECK_PENDING")

    with pytest.raises(StrongroomError, match="of the target"):
        targets.once_checked(call, seconds=0.05)
