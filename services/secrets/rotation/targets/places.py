"""How many steps at targets are done at once: each may take memory, and all of them together no more than there is.

Places are shared out between accounts like rotations: in turns, so many an account, and slow ones apart.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from services.runtime.errors import Reason, StrongroomError
from services.runtime.work.fair_queue import FairQueue

_WAITING = 64
# An account is slow, or is no longer, without anybody saying so.
_LOOK_SECONDS = 1.0
_RETRY_SECONDS = 1.0


class StepPlaces:
    """Places for steps."""

    def __init__(self, places: int, share: int) -> None:
        self._queue: FairQueue[threading.Event] = FairQueue(places, share)

    @contextmanager
    def place(self, account: str, seconds: float) -> Iterator[None]:
        """A place of the account's within the block. Raises OVERLOADED where none is free in so many seconds."""
        mine, until = threading.Event(), time.monotonic() + seconds
        if not self._queue.put(account, mine, _WAITING):
            raise _none_free(account)
        self._hand_out()
        while not mine.wait(max(min(_LOOK_SECONDS, until - time.monotonic()), 0.0)):
            if time.monotonic() >= until and self._queue.withdraw(account, mine):
                raise _none_free(account)
            self._hand_out()
        try:
            yield
        finally:
            self._queue.done(account)
            self._hand_out()

    def _hand_out(self) -> None:
        while (taken := self._queue.try_take()) is not None:
            taken[1].set()


def _none_free(account: str) -> StrongroomError:
    return StrongroomError(
        Reason.OVERLOADED,
        f"too many steps at targets are in work, those of accounts/{account} among them: try again later",
        retry_after_seconds=_RETRY_SECONDS,
    )
