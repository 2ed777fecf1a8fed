"""Items that wait outside a full queue of their account's: nobody looks at them again before there is room, or their
time has come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import islice
from random import SystemRandom

_SECONDS = 300.0
# Beyond these, an item is put off all the same, and what the database says brings it up again sooner.
_REMEMBERED = 100_000


class PutOff:
    """Which items are put off, by account.

    What is due without end, because its targets never answer, would otherwise be claimed and put back all the time, and
    the processor time for it is everybody's.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._until: dict[str, dict[str, float]] = {}
        self._count = 0
        self._lock = threading.Lock()

    def add(self, account: str, item: str) -> float:
        """Puts an item off, and answers for how many seconds."""
        seconds = _SECONDS * SystemRandom().uniform(0.5, 1.5)
        with self._lock:
            of_account = self._until.setdefault(account, {})
            if item in of_account or self._count < _REMEMBERED:
                self._count += item not in of_account
                of_account[item] = self._now() + seconds
        return seconds

    def take(self, account: str, count: int) -> list[str]:
        """Up to `count` items of an account that are put off no longer, those first that were first."""
        with self._lock:
            taken = list(islice(self._until.get(account, ()), count))
            for item in taken:
                self._forget(account, item)
        return taken

    def remove(self, item: str) -> None:
        """Has an item be put off no longer, if it is."""
        with self._lock:
            for account, of_account in self._until.items():
                if item in of_account:
                    self._forget(account, item)
                    return

    def accounts(self) -> list[str]:
        """Those whose items are put off."""
        with self._lock:
            return list(self._until)

    def items(self) -> set[str]:
        """What is put off just now."""
        now = self._now()
        with self._lock:
            over = [
                (account, item)
                for account, of_account in self._until.items()
                for item, until in of_account.items()
                if until <= now
            ]
            for account, item in over:
                self._forget(account, item)
            return {item for of_account in self._until.values() for item in of_account}

    def _forget(self, account: str, item: str) -> None:
        of_account = self._until[account]
        del of_account[item]
        self._count -= 1
        if not of_account:
            del self._until[account]
