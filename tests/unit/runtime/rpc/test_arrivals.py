"""Calls that wait for their turn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from services.runtime.errors import Reason, StrongroomError
from services.runtime.rpc.admission import Caller
from services.runtime.rpc.arrivals import Arrivals, Limits, Threads
from services.runtime.rpc.arriving import ArrivingCall
from services.runtime.rpc.methods import Arrival, Mode
from services.runtime.rpc.turns import Turns
from services.runtime.rpc.unfinished import Patience
from tests.support.clients import until

ACME = Caller("acme", "accounts/acme/users/ann", is_known=True)
STRANGER = Caller("127.0.0.1", "ipv4:127.0.0.1:5", is_known=False)
OVER = StrongroomError(Reason.QUOTA_EXCEEDED, "accounts/acme is over its quota")


class Waiting:
    """A call whose message has come."""

    def __init__(self, caller: Caller) -> None:
        self.arrival = Arrival(Mode.IN_TURN)
        self.caller = caller
        self.message: bytes | None = b"a large one"
        self.refusal: StrongroomError | None = None
        self.since = 0.0
        self.told: list[StrongroomError] = []

    def headers(self) -> Any:
        return SimpleNamespace()

    def refuse(self, error: StrongroomError, *, final: bool = False) -> None:
        assert final
        self.told.append(error)


def arrivals(known_as: Caller, refused: set[str]) -> Arrivals:
    turns = Turns("test", threads=1, share=1, waiting=1, waiting_bytes=1)
    limits = Limits(Patience(unfinished=10, message_seconds=60.0, slow=10), watches=1, exchanges=1)
    return Arrivals(
        "test",
        lambda _headers: known_as,
        Threads(turns, turns, turns, turns),
        limits,
        lambda caller: OVER if caller.group in refused else None,
    )


def test_who_is_over_its_quota_when_its_turn_comes_is_refused_unparsed() -> None:
    refused: set[str] = set()
    waiting = arrivals(ACME, refused)
    call = Waiting(ACME)
    assert waiting.may_run(cast("ArrivingCall", call))
    refused.add("acme")
    assert not waiting.may_run(cast("ArrivingCall", call))
    assert call.message is None
    until(lambda: call.told == [OVER], 10)
    waiting.end_all()


def test_who_was_a_stranger_when_its_call_came_is_asked_for_again() -> None:
    waiting = arrivals(ACME, {"acme"})
    assert not waiting.may_run(cast("ArrivingCall", Waiting(STRANGER)))
    waiting.end_all()


def test_strangers_have_no_quota_to_be_over() -> None:
    waiting = arrivals(STRANGER, {"acme", "127.0.0.1"})
    assert waiting.may_run(cast("ArrivingCall", Waiting(STRANGER)))
    waiting.end_all()
