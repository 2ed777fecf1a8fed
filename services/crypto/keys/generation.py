"""RSA keys are made a few at a time: one takes seconds of a processor or of the token.

The accounts take turns, each with one key in the making. Who waits longer than its call can, or comes when its account
has enough waiting already, is told to come back: nobody else's call is held up by it. They are made in threads of their
own, which the system lets run when no other one wants to.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from services.crypto.primitives.private_keys import RSA_BITS
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError
from services.runtime.work.fair_queue import FairQueue
from strongroom.keystore.v1.key_pb2 import KeySpec

T = TypeVar("T")

_AT_ONCE = 2
_NICENESS = 10
_WAITING_PER_ACCOUNT = 4
# Each is a thread that answers calls.
_WAITING = 16
_LONGEST_SECONDS = 8.0
# What is left after waiting has to do for making the key.
_WAIT_PART = 0.5
_RETRY_SECONDS = 2.0


@dataclass(slots=True, eq=False)
class _Turn:
    come: threading.Event = field(default_factory=threading.Event)
    granted: bool = False
    given_up: bool = False


class Generation:
    """Turns for making RSA keys."""

    def __init__(self, at_once: int = _AT_ONCE) -> None:
        self._queue: FairQueue[_Turn] = FairQueue(at_once, 1)
        self._lock = threading.Lock()
        self._waiting = 0
        self._threads = ThreadPoolExecutor(at_once, "generation", _give_way)

    def made(
        self, work: Callable[[], T], call: Call, account: str, spec: KeySpec.ValueType, *, in_hsm: bool = False
    ) -> T:
        """What `work` makes, in the account's turn. Raises as `turn`."""
        with self.turn(call, account, spec, in_hsm=in_hsm):
            if spec not in RSA_BITS:
                return work()
            return self._threads.submit(contextvars.copy_context().run, work).result()

    @contextmanager
    def turn(self, call: Call, account: str, spec: KeySpec.ValueType, *, in_hsm: bool = False) -> Iterator[None]:
        """Waits for the account's turn to make a key of this spec; other specs than RSA's need none. When that does not
        come in time, raises HSM_BUSY for a key in the HSM, OVERLOADED for another."""
        if spec not in RSA_BITS:
            yield
            return
        busy = Reason.HSM_BUSY if in_hsm else Reason.OVERLOADED
        left = call.seconds_left()
        seconds = _LONGEST_SECONDS if left is None else min(left * _WAIT_PART, _LONGEST_SECONDS)
        turn = self._enqueued(account, busy)
        turn.come.wait(max(seconds, 0.0))
        with self._lock:
            self._waiting -= 1
            turn.given_up = not turn.granted
        if turn.given_up:
            self._go_on()
            raise _refused(busy)
        try:
            yield
        finally:
            self._queue.done(account)
            self._go_on()

    def _enqueued(self, account: str, busy: Reason) -> _Turn:
        turn = _Turn()
        with self._lock:
            if self._waiting >= _WAITING or not self._queue.put(account, turn, _WAITING_PER_ACCOUNT):
                raise _refused(busy)
            self._waiting += 1
        self._go_on()
        return turn

    def _go_on(self) -> None:
        while True:
            with self._lock:
                taken = self._queue.try_take()
                if taken is None:
                    return
                account, turn = taken
                turn.granted = not turn.given_up
                if turn.granted:
                    turn.come.set()
                    continue
            self._queue.done(account)


def _give_way() -> None:
    # Of this thread alone. Where a system does not let it, keys are made all the same.
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _refused(reason: Reason) -> StrongroomError:
    return StrongroomError(
        reason, "other RSA keys are being made: try again in a moment", retry_after_seconds=_RETRY_SECONDS
    )
