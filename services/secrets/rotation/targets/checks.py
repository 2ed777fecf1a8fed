"""Calls that ask a target: how long a call's thread waits for one, and how many of an account's wait at once.

The threads that answer calls are everybody's. So a check of a target is done by threads apart, shared out between
accounts, and a call waits about a second for it. A call that comes back with the same question finds what became of it.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b

from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError
from services.runtime.work.fair_queue import FairQueue
from services.secrets.rotation.rotators.rotator import Credential, RotationContext

_THREADS = 8
_SHARE = 2
_WAITING = 32
# So many of an account's, done or not: who does not come back for the answers gets no more.
_KEPT = 64
_KEPT_SECONDS = 60.0
_RETRY_SECONDS = 1.0
# Of a caller that sets no deadline.
_LONGEST_SECONDS = 120.0


class Waiters:
    """Places for calls that wait for a target: few in all, and fewer of one account."""

    def __init__(self, places: int = 16, share: int = 4) -> None:
        self._places = places
        self._share = share
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    @contextmanager
    def place(self, account: str) -> Iterator[bool]:
        """Whether there is a place, which is the caller's within the block."""
        with self._lock:
            free = self._taken[account] < self._share and self._taken.total() < self._places
            self._taken[account] += free
        try:
            yield free
        finally:
            with self._lock:
                self._taken[account] -= free
                self._taken += Counter()

    @contextmanager
    def until(self, call: Call, account: str) -> Iterator[float]:
        """When the call waits no longer, by `time.monotonic`. Raises OVERLOADED where too many wait already."""
        with self.place(account) as free:
            if not free:
                raise _busy(account)
            left = call.seconds_left()
            yield time.monotonic() + min(_LONGEST_SECONDS if left is None else left, _LONGEST_SECONDS)


@dataclass(slots=True)
class _Check:
    run: Callable[[], None] = field(repr=False)
    begun: float
    account: str
    error: StrongroomError | None = None
    done: threading.Event = field(default_factory=threading.Event)


class TargetChecks:
    """Checks that calls ask for."""

    def __init__(self, waiters: Waiters, *, wait_seconds: float = 1.0) -> None:
        """A call waits for `wait_seconds`, and never past its own deadline."""
        self._waiters = waiters
        self._wait_seconds = wait_seconds
        self._queue: FairQueue[_Check] = FairQueue(_THREADS, _SHARE)
        self._lock = threading.Lock()
        self._checks: dict[bytes, _Check] = {}
        self._threads = 0
        # What is asked holds credentials: nobody can look for one by its digest.
        self._digest_key = os.urandom(32)

    def check(self, call: Call, context: RotationContext, current: Credential | None, run: Callable[[], None]) -> None:
        """Does `run`, which asks the context's target, or finds out what became of it. Raises what it raises;
        TARGET_CHECK_PENDING when that is not known in time, and OVERLOADED when too many of the account's wait."""
        account = context.secret.name.account
        question = self._question(call, context, current)
        asked = self._asked(question, account, run)
        with self._waiters.place(account) as free:
            left = call.seconds_left()
            most = self._wait_seconds if free else 0.0
            done = asked.done.wait(most if left is None else max(min(most, left), 0.0))
        if not done:
            raise StrongroomError(
                Reason.TARGET_CHECK_PENDING,
                "the target has not answered yet and is still asked: call again for its answer, or skip the check",
                retry_after_seconds=_RETRY_SECONDS,
            )
        with self._lock:
            self._checks.pop(question, None)
        if asked.error is not None:
            raise asked.error.renewed()

    def close(self) -> None:
        """Begins no more checks."""
        self._queue.end()

    def _asked(self, question: bytes, account: str, run: Callable[[], None]) -> _Check:
        with self._lock:
            now = time.monotonic()
            for old in [key for key, check in self._checks.items() if _is_forgotten(check, now)]:
                del self._checks[old]
            found = self._checks.get(question)
            if found is not None:
                return found
            if sum(check.account == account for check in self._checks.values()) >= _KEPT:
                raise _busy(account)
            check = _Check(run, now, account)
            if not self._queue.put(account, check, _WAITING):
                raise _busy(account)
            self._checks[question] = check
            while self._threads < _THREADS:
                self._threads += 1
                threading.Thread(target=self._work, name=f"target-check-{self._threads}", daemon=True).start()
        return check

    def _work(self) -> None:
        while (taken := self._queue.take()) is not None:
            account, check = taken
            try:
                check.run()
            except StrongroomError as error:
                check.error = error
            except Exception as error:  # noqa: BLE001  # the next check is another's
                check.error = StrongroomError(Reason.ROTATOR_FAILED, f"the rotator failed with {type(error).__name__}")
            finally:
                self._queue.done(account)
                check.done.set()

    def _question(self, call: Call, context: RotationContext, current: Credential | None) -> bytes:
        secret = context.secret
        digest = blake2b(key=self._digest_key)
        parts = [call.method, call.principal.name, str(secret.name), str(secret.type)]
        asked = [part.encode() for part in parts]
        asked += [context.target.SerializeToString(deterministic=True), context.rule.SerializeToString()]
        for credential in (context.master, current):
            asked += [credential.version.encode(), credential.value.reveal()] if credential is not None else [b"", b""]
        for content in asked:
            digest.update(len(content).to_bytes(8) + content)
        return digest.digest()


def _is_forgotten(check: _Check, now: float) -> bool:
    return check.done.is_set() and now - check.begun > _KEPT_SECONDS


def _busy(account: str) -> StrongroomError:
    return StrongroomError(
        Reason.OVERLOADED,
        f"too many calls of accounts/{account} wait for targets: call again later",
        retry_after_seconds=_RETRY_SECONDS,
    )
