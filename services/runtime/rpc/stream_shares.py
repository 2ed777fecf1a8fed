"""Places for streams, which nobody can take all of: a principal and an account have a share each."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from services.runtime.call import Principal
from services.runtime.errors import Reason, StrongroomError


class StreamShares:
    """At most `total` places; an account that holds none gets its first beyond them, up to as many again."""

    def __init__(self, what: str, *, total: int, account: int, principal: int, retry_after_seconds: float) -> None:
        self._what = what
        self._total = total
        self._account = account
        self._principal = principal
        self._retry_after_seconds = retry_after_seconds
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()
        self._all = 0

    def take(self, principal: Principal) -> Callable[[], None]:
        """Takes a place, and answers what gives it back, once, however often it is called. Raises OVERLOADED, which
        says whose share is used up."""
        account = f"accounts/{principal.account}"
        with self._lock:
            if self._held[principal.name] >= self._principal:
                raise self._used_up(principal.name, self._principal)
            if self._held[account] >= self._account:
                raise self._used_up(account, self._account)
            if self._all >= (self._total if self._held[account] else 2 * self._total):
                raise self._used_up("this process", self._total)
            self._count(principal.name, account, 1)
        given_back = False

        def give_back() -> None:
            nonlocal given_back
            with self._lock:
                if not given_back:
                    given_back = True
                    self._count(principal.name, account, -1)

        return give_back

    def _count(self, principal: str, account: str, change: int) -> None:
        self._all += change
        for name in (principal, account):
            self._held[name] += change
            if not self._held[name]:
                del self._held[name]

    def _used_up(self, whose: str, share: int) -> StrongroomError:
        return StrongroomError(
            Reason.OVERLOADED,
            f"{whose} has {share} {self._what} open already: end one, or try again",
            retry_after_seconds=self._retry_after_seconds,
            target=whose,
        )
