"""Calls on their way in: read whole without a thread, then handed to threads that serve callers in turn."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.runtime.background import Background
from services.runtime.errors import Reason, StrongroomError
from services.runtime.rpc.admission import Caller, Recognize, Refusal, refused_in_turn
from services.runtime.rpc.arriving import ArrivingCall, Headers, require_known_grpcio
from services.runtime.rpc.methods import Mode, Room, broken
from services.runtime.rpc.places import Places
from services.runtime.rpc.turns import Turns
from services.runtime.rpc.unfinished import SLOW_SECONDS, Patience, Unfinished, overloaded

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes on at once: calls whose message has not come, and streams of the modes that last."""

    unfinished: Patience
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
        self._unfinished = Unfinished(name, limits.unfinished)
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
            self._unfinished.dismiss(call, refusal)
        except Exception:
            log.exception("an arriving call could not be taken on")
            call.refuse(broken())

    def stop(self) -> None:
        """Ends what would last, and from now on waits for messages no longer than a moment. Who is refused may call
        again elsewhere."""
        self._is_stopping = True
        self._unfinished.hurry()
        for places in self._lasting.values():
            for call in places.holders():
                call.refuse(stopping())

    def end_all(self) -> None:
        """Ends what is not answered yet with SHUTTING_DOWN."""
        self._sweeping.end()
        self._unfinished.stop()
        for call in list(self._open):
            call.refuse(stopping(), final=call.begun)
        for turns in (self._threads.known, self._threads.strangers, self._threads.exchanges, self._threads.reserved):
            turns.close()

    def _await_message(self, call: ArrivingCall) -> None:
        if self._refusal is not None and call.caller.is_known:
            call.refusal = self._refusal(call.caller)
        self._unfinished.enter(call)

    def message_came(self, call: ArrivingCall) -> None:
        """A call is whole, or its end came first."""
        self._unfinished.came(call)
        if call.message is None:
            return
        if call.arrival.mode in (Mode.AT_ONCE, Mode.WATCH):
            call.run()
            return
        for displaced in self._threads.of(call.arrival.room, call.caller).put(call):
            if isinstance(displaced, ArrivingCall):
                displaced.message = None
                self._displace(displaced)

    def may_run(self, call: ArrivingCall) -> bool:
        """Whether a call is to be answered now that its turn has come."""
        if self._refusal is None or call.arrival.mode is not Mode.IN_TURN:
            return True
        refusal = refused_in_turn(call.caller, call.headers, self._recognize, self._refusal)
        if refusal is None:
            return True
        call.message, call.refusal = None, refusal
        self._unfinished.enter(call)
        return False

    def wants_next(self, call: ArrivingCall) -> None:
        """A stream's message was answered; the next is awaited."""
        self._await_message(call)

    def _displace(self, call: ArrivingCall | None) -> None:
        if call is not None:
            self._unfinished.dismiss(call, overloaded())

    def _forget(self, call: ArrivingCall) -> None:
        self._open.discard(call)
        self._unfinished.forget(call)
        places = self._lasting.get(call.arrival.mode)
        if places is not None:
            places.leave(call)
        call.let_go()

    def _sweep(self) -> None:
        if self._is_stopping:
            self._unfinished.sweep(SLOW_SECONDS, lambda _: stopping())
        else:
            self._unfinished.sweep(self._limits.unfinished.message_seconds, incomplete)


def stopping() -> StrongroomError:
    """What callers are told while the process ends."""
    return StrongroomError(Reason.SHUTTING_DOWN, "this process is about to end: call again")


def incomplete(seconds: float) -> StrongroomError:
    """What a caller is told whose message takes too long."""
    return StrongroomError(Reason.REQUEST_INCOMPLETE, f"the message did not come within {seconds:g} s of its headers")
