"""A queue that shares slots out between accounts: round robin, so many slots an account, and slow ones apart."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")

_SLOW_SECONDS = 10.0
# An account whose work was slow long ago is asked again.
_REMEMBERED_SECONDS = 300.0


@dataclass(slots=True)
class _Account(Generic[Item]):
    waiting: deque[Item] = field(default_factory=deque)
    started: list[float] = field(default_factory=list)
    slow_until: float = 0.0


class FairQueue(Generic[Item]):
    """Hands items out while there are slots, the accounts in turn and each its items in order.

    An account has at most `share` slots at once. One is slow whose last item took more than `slow_seconds`, or that has
    an item in work for so long: it has a single slot, and half as many slow accounts as there are slots are served at
    once. So whoever waits for something that does not answer never holds what the others need.
    """

    def __init__(
        self,
        slots: int,
        share: int,
        *,
        slow_seconds: float = _SLOW_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = slots
        self._slow_slots = max(slots // 2, 1)
        self._share = share
        self._slow_seconds = slow_seconds
        self._now = now
        self._accounts: OrderedDict[str, _Account[Item]] = OrderedDict()
        self._in_work = 0
        self._ended = False
        self._changed = threading.Condition()

    def put(self, account: str, item: Item, limit: int) -> bool:
        """Adds an item; False when the account has `limit` waiting already."""
        with self._changed:
            of_account = self._accounts.setdefault(account, _Account())
            if len(of_account.waiting) >= limit:
                return False
            of_account.waiting.append(item)
            self._changed.notify()
        return True

    def take(self) -> tuple[str, Item] | None:
        """The next item, whose slot is the caller's until `done`; waits for one. None once the queue has ended."""
        with self._changed:
            while not self._ended:
                found = self._next()
                if found is not None:
                    return found
                # An account becomes slow, or is no longer, without anybody saying so.
                self._changed.wait(self._slow_seconds)
            return None

    def try_take(self) -> tuple[str, Item] | None:
        """What may begin now, without waiting for it; None where nothing may."""
        with self._changed:
            return None if self._ended else self._next()

    def withdraw(self, account: str, item: Item) -> bool:
        """Takes an item back that waits; False when it does no longer."""
        with self._changed:
            of_account = self._accounts.get(account)
            if of_account is None or item not in of_account.waiting:
                return False
            of_account.waiting.remove(item)
            self._forget(account, self._now())
        return True

    def done(self, account: str) -> None:
        """Gives back the slot of the account's oldest item in work."""
        with self._changed:
            of_account = self._accounts[account]
            now = self._now()
            took = now - of_account.started.pop(0)
            of_account.slow_until = now + _REMEMBERED_SECONDS if took > self._slow_seconds else 0.0
            self._in_work -= 1
            self._forget(account, now)
            self._changed.notify_all()

    def end(self) -> list[Item]:
        """Hands nothing out any more; answers what was waiting."""
        with self._changed:
            self._ended = True
            left = [item for of_account in self._accounts.values() for item in of_account.waiting]
            for of_account in self._accounts.values():
                of_account.waiting.clear()
            self._changed.notify_all()
        return left

    @property
    def in_work(self) -> int:
        """How many items are in work."""
        return self._in_work

    def waiting_of(self, account: str) -> int:
        """How many items of an account wait."""
        with self._changed:
            found = self._accounts.get(account)
            return len(found.waiting) if found is not None else 0

    def waiting(self) -> dict[str, int]:
        """How many items wait, by account; without those that have none."""
        with self._changed:
            return {name: len(found.waiting) for name, found in self._accounts.items() if found.waiting}

    def _next(self) -> tuple[str, Item] | None:
        if self._in_work >= self._slots:
            return None
        now = self._now()
        slow = {name for name, found in self._accounts.items() if self._is_slow(found, now)}
        # What an account began before it was known to be slow counts once: it would else keep out the other slow ones.
        slow_in_work = sum(bool(self._accounts[name].started) for name in slow)
        for name, found in self._accounts.items():
            if not found.waiting:
                continue
            if name in slow and (found.started or slow_in_work >= self._slow_slots):
                continue
            if len(found.started) >= self._share:
                continue
            found.started.append(now)
            self._in_work += 1
            self._accounts.move_to_end(name)
            return name, found.waiting.popleft()
        return None

    def _is_slow(self, found: _Account[Item], now: float) -> bool:
        return now < found.slow_until or bool(found.started and now - found.started[0] > self._slow_seconds)

    def _forget(self, account: str, now: float) -> None:
        found = self._accounts[account]
        if not found.waiting and not found.started and now >= found.slow_until:
            del self._accounts[account]
