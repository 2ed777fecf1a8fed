"""Calls whose message has not come: how many there may be, of how many it is asked for, and who has to leave."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from services.runtime.errors import Reason, StrongroomError
from services.runtime.rpc.admission import Caller
from services.runtime.rpc.arriving import ArrivingCall
from services.runtime.rpc.dismissals import Dismissals
from services.runtime.rpc.methods import Mode
from services.runtime.rpc.places import Places

SLOW_SECONDS = 0.5
"""Beyond which a message is slow."""
_ASKED_OF_A_CALLER = 64
_ASKED_OF_A_STRANGER = 4
_LEAVING = 8_192


@dataclass(frozen=True, slots=True)
class Patience:
    """What a server takes on at once: calls whose message has not come, and for how long they may be that."""

    unfinished: int
    message_seconds: float
    slow: int
    """Of the unfinished, those that take longer than half a second: gRPC keeps what has come of their messages."""


class Unfinished:
    """Those calls. gRPC is asked for the message of 64 of a caller at once, of four on a stranger's connection: of the
    others no more comes than fits into the window that a call begins with, and they are asked for when one of those is
    whole.

    Who has to leave is told by and by (`Dismissals`), since who asks again at once takes from others what refusing
    costs.
    """

    def __init__(self, name: str, patience: Patience) -> None:
        self._patience = patience
        self._places: Places[ArrivingCall] = Places(patience.unfinished)
        self._leaving: Dismissals[ArrivingCall] = Dismissals(f"{name}-dismissals", _refuse, _LEAVING)
        self._lock = threading.Lock()
        self._asked: set[ArrivingCall] = set()
        self._asked_of: Counter[Caller] = Counter()
        self._unasked: dict[Caller, dict[ArrivingCall, None]] = {}

    def enter(self, call: ArrivingCall) -> None:
        """Takes a call on. The caller holds its condition."""
        call.since = time.monotonic()
        displaced = self._places.enter(call, call.caller.group)
        if displaced is not None:
            self.dismiss(displaced, overloaded())
        if call.refusal is None and self._may_ask(call):
            call.receive()

    def came(self, call: ArrivingCall) -> None:
        """A call is whole, or its end came first."""
        self.forget(call)
        if self._unasked:
            self._ask_next(call.caller)

    def forget(self, call: ArrivingCall) -> None:
        """A call has ended."""
        self._places.leave(call)
        self._leaving.forget(call)
        self._answered(call)

    def dismiss(self, call: ArrivingCall, error: StrongroomError) -> None:
        """Has a call end with an error, soon; first those that gRPC was asked about, since their messages may grow."""
        was_asked = call in self._asked
        if not was_asked:
            self._answered(call)
        self._leaving.add(call, call.caller.group, error, urgent=was_asked)

    def sweep(self, seconds: float, error: Callable[[float], StrongroomError]) -> None:
        """Dismisses the calls whose time has come; those that have taken `seconds` with `error`."""
        for held in self._places.holders():
            if held.refusal is not None:
                self._leave(held, held.refusal)
        slow = _began_before(time.monotonic() - SLOW_SECONDS)
        for greedy in self._places.surplus(self._patience.slow, slow):
            self._leave(greedy, overloaded())
        overdue = time.monotonic() - seconds
        while (call := self._places.oldest()) is not None and call.since < overdue:
            self._leave(call, error(seconds))
        for caller in list(self._unasked):
            self._ask_next(caller)

    def hurry(self) -> None:
        """Dismisses from now on without a pause: the process is about to end."""
        self._leaving.hurry()

    def stop(self) -> None:
        """Dismisses nobody any more."""
        self._leaving.stop()

    def _leave(self, call: ArrivingCall, error: StrongroomError) -> None:
        if self._places.leave(call):
            self.dismiss(call, error)

    def _may_ask(self, call: ArrivingCall) -> bool:
        with self._lock:
            if self._has_room(call.caller):
                self._note_asked(call)
                return True
            self._unasked.setdefault(call.caller, {})[call] = None
            return False

    def _ask_next(self, caller: Caller) -> None:
        while True:
            with self._lock:
                waiting = self._unasked.get(caller)
                if not waiting or not self._has_room(caller):
                    return
                call = next(iter(waiting))
                self._drop_unasked(call)
                self._note_asked(call)
            if not call.receive_now():
                self._answered(call)

    def _has_room(self, caller: Caller) -> bool:
        return self._asked_of[caller] < (_ASKED_OF_A_CALLER if caller.is_known else _ASKED_OF_A_STRANGER)

    def _note_asked(self, call: ArrivingCall) -> None:
        self._asked.add(call)
        self._asked_of[call.caller] += 1

    def _answered(self, call: ArrivingCall) -> None:
        if call not in self._asked and not self._unasked:
            return
        with self._lock:
            if call not in self._asked:
                self._drop_unasked(call)
                return
            self._asked.remove(call)
            self._asked_of[call.caller] -= 1
            if not self._asked_of[call.caller]:
                del self._asked_of[call.caller]

    def _drop_unasked(self, call: ArrivingCall) -> None:
        waiting = self._unasked.get(call.caller)
        if waiting is not None:
            waiting.pop(call, None)
            if not waiting:
                del self._unasked[call.caller]


def _refuse(call: ArrivingCall, error: StrongroomError) -> None:
    # Its message may have come meanwhile, and its turn.
    final = call.refusal is not None or (call.begun and call.arrival.mode is Mode.IN_TURN)
    call.refuse(error, final=final)


def _began_before(moment: float) -> Callable[[ArrivingCall], bool]:
    return lambda call: call.since < moment


def overloaded() -> StrongroomError:
    """What callers are told whose calls give way to others'."""
    return StrongroomError(Reason.OVERLOADED, "too many calls are open from here", retry_after_seconds=1.0)
