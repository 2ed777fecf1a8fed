"""Calls on their way in: read whole without a thread, then handed to threads that serve callers in turn."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.runtime.background import Background
from services.runtime.errors import Reason, StrongroomError
from services.runtime.rpc.admission import Caller, Recognize, Refusal, refused_in_turn
from services.runtime.rpc.arriving import ArrivingCall, Headers, require_known_grpcio
from services.runtime.rpc.methods import Mode, Room, broken
from services.runtime.rpc.places import Places
from services.runtime.rpc.turns import Turns

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 0.25
_SLOW_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes on at once: calls whose message has not come, and for how long they may be that, and streams
    of the modes that last."""

    unfinished: int
    message_seconds: float
    slow: int
    """Of the unfinished, those that take longer than half a second: gRPC keeps what has come of their messages."""
    watches: int
    exchanges: int


@dataclass(frozen=True, slots=True)
class Threads:
    """The threads of a server, each kind its own, so that none can use up another's."""

    known: Turns
    strangers: Turns
    exchanges: Turns
    reserved: Turns

    def of(self, room: Room, caller: Caller) -> Turns:
        """Which of them serve a call."""
        if room is Room.RESERVED:
            return self.reserved
        if caller.is_known:
            return self.known
        return self.exchanges if room is Room.EXCHANGES else self.strangers


class Arrivals:
    """Stands where grpcio expects a thread pool."""

    def __init__(
        self, name: str, recognize: Recognize, threads: Threads, limits: Limits, refusal: Refusal | None = None
    ) -> None:
        """`refusal` tells of whom nothing is read just now."""
        require_known_grpcio()
        self._recognize = recognize
        self._threads = threads
        self._limits = limits
        self._refusal = refusal
        self._unfinished: Places[ArrivingCall] = Places(limits.unfinished)
        self._lasting: Mapping[Mode, Places[ArrivingCall]] = {
            Mode.WATCH: Places(limits.watches),
            Mode.EXCHANGE: Places(limits.exchanges),
        }
        self._open: set[ArrivingCall] = set()
        self._is_stopping = False
        self._sweeping = Background(
            f"{name}-arrivals",
            self._sweep,
            "waiting calls were not checked for their time limits",
            every=_SWEEP_SECONDS,
        )
        self._sweeping.start()

    def submit(self, _run: Any, respond: Any, event: Any, state: Any, behaviour: Any, *rest: Any) -> None:
        """Called by grpcio in its own thread, holding the call's condition, when a call's headers have come. It must
        not raise: the thread would end, and the server with it."""
        _argument, deserialize, serialize = rest
        call = ArrivingCall(self, respond, event, state, behaviour, deserialize, serialize)
        try:
            self._open.add(call)
            call.on_end(lambda: self._forget(call))
            headers = Headers(event)
            call.caller = self._recognize(headers)
            if call.arrival.only is not None:
                call.arrival.only.admit(headers)
            places = self._lasting.get(call.arrival.mode)
            if places is not None:
                self._displace(places.enter(call, call.caller.group))
            self._await_message(call)
        except StrongroomError as refusal:
            call.refuse(refusal)
        except Exception:
            log.exception("an arriving call could not be taken on")
            call.refuse(broken())

    def stop(self) -> None:
        """Ends what would last, and from now on waits for messages no longer than a moment. Who is refused may call
        again elsewhere."""
        self._is_stopping = True
        for places in self._lasting.values():
            for call in places.holders():
                call.refuse(stopping())

    def end_all(self) -> None:
        """Ends what is not answered yet with SHUTTING_DOWN."""
        self._sweeping.end()
        for call in list(self._open):
            call.refuse(stopping(), final=call.begun)
        for turns in (self._threads.known, self._threads.strangers, self._threads.exchanges, self._threads.reserved):
            turns.close()

    def _await_message(self, call: ArrivingCall) -> None:
        call.since = time.monotonic()
        if self._refusal is not None and call.caller.is_known:
            call.refusal = self._refusal(call.caller)
        self._displace(self._unfinished.enter(call, call.caller.group))
        if call.refusal is None:
            call.receive()

    def message_came(self, call: ArrivingCall) -> None:
        """A call is whole, or its end came first."""
        self._unfinished.leave(call)
        if call.message is None:
            return
        if call.arrival.mode in (Mode.AT_ONCE, Mode.WATCH):
            call.run()
            return
        displaced = self._threads.of(call.arrival.room, call.caller).put(call)
        if isinstance(displaced, ArrivingCall):
            displaced.refuse(overloaded())

    def may_run(self, call: ArrivingCall) -> bool:
        """Whether a call is to be answered now that its turn has come."""
        if self._refusal is None or call.arrival.mode is not Mode.IN_TURN:
            return True
        refusal = refused_in_turn(call.caller, call.headers, self._recognize, self._refusal)
        if refusal is None:
            return True
        call.message, call.refusal = None, refusal
        self._displace(self._unfinished.enter(call, call.caller.group))
        return False

    def wants_next(self, call: ArrivingCall) -> None:
        """A stream's message was answered; the next is awaited."""
        self._await_message(call)

    def _displace(self, call: ArrivingCall | None) -> None:
        if call is not None:
            call.refuse(overloaded())

    def _forget(self, call: ArrivingCall) -> None:
        self._open.discard(call)
        self._unfinished.leave(call)
        places = self._lasting.get(call.arrival.mode)
        if places is not None:
            places.leave(call)
        call.let_go()

    def _sweep(self) -> None:
        for held in self._unfinished.holders():
            # Told after a moment: who asks again at once would take from others what refusing costs.
            if held.refusal is not None and self._unfinished.leave(held):
                held.refuse(held.refusal, final=True)
        slow = _began_before(time.monotonic() - _SLOW_SECONDS)
        for greedy in self._unfinished.surplus(self._limits.slow, slow):
            if self._unfinished.leave(greedy):
                greedy.refuse(overloaded())
        is_stopping = self._is_stopping
        seconds = _SLOW_SECONDS if is_stopping else self._limits.message_seconds
        error = stopping() if is_stopping else incomplete(seconds)
        overdue = time.monotonic() - seconds
        while (call := self._unfinished.oldest()) is not None and call.since < overdue:
            if self._unfinished.leave(call):
                call.refuse(error)


def _began_before(moment: float) -> Callable[[ArrivingCall], bool]:
    return lambda call: call.since < moment


def stopping() -> StrongroomError:
    """What callers are told while the process ends."""
    return StrongroomError(Reason.SHUTTING_DOWN, "this process is about to end: call again")


def overloaded() -> StrongroomError:
    """What callers are told whose calls give way to others'."""
    return StrongroomError(Reason.OVERLOADED, "too many calls are open from here", retry_after_seconds=1.0)


def incomplete(seconds: float) -> StrongroomError:
    """What a caller is told whose message takes too long."""
    return StrongroomError(Reason.REQUEST_INCOMPLETE, f"the message did not come within {seconds:g} s of its headers")
