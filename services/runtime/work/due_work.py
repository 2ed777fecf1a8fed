"""Work that falls due: threads that claim it from the schedule and do it, and one that keeps the schedule filled.

A claim is leased for a short time and renewed while its work goes on, so that the work of a process that dies is soon
taken up by another. A process that merely stalled may then find itself the second: what it does must be refused by the
database, which knows the greater fencing token.

Redis is only how replicas share the work without asking the database all the time. What the database says was due for
a while and nobody works on is brought forward without it: whatever stands in Redis delays work by seconds.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import SystemRandom

from redis.exceptions import RedisError

from services.runtime.background import NEVER, Background
from services.runtime.clock import Clock
from services.runtime.errors import StrongroomError
from services.runtime.work.fair_queue import FairQueue
from services.runtime.work.put_off import PutOff
from services.runtime.work.schedule import Claim, Schedule

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""Poll interval while nothing is due."""

_FILL_SECONDS = 30.0
# Looked ahead further than a fill takes to come round, so that nothing is late for want of one.
_HORIZON_US = 120_000_000
# By Redis's clock, whatever this replica's says.
_DUE_ALREADY_US = 0
_RETRY_SECONDS = 15.0
OVERDUE_SECONDS = 30.0
"""After which the database does not wait for Redis."""
_LOOK_SECONDS = 5.0
FORWARD_AT_ONCE = 256
"""Of what is overdue, how much one look takes up. Where it finds so much, the next look follows as soon as that is
begun."""
_NEXT_LOOK_SECONDS = 0.1
# Where a great deal is overdue a look takes long, and time that the work itself needs.
_LOOKS_SHARE = 0.1
_SHOWN = 200
_STOP_SECONDS = 15.0

Due = Callable[[int], Mapping[str, int]]
"""What the database says will be due until a time in microseconds: items by their due time."""
Handle = Callable[[Claim], float | None]
"""Does what an item stands for: None when it is done, or in how many seconds to come back to it. Raises
StrongroomError where a later try may fare better."""

Overdue = Callable[[int, int, Collection[str]], Sequence[Claim]]
"""What the database says was due before a time in microseconds and nobody works on, as claims of its own: no more than
so many, some of each account, and none of the items that are in hand already."""


def _nothing(_before_us: int, _limit: int, _in_hand: Collection[str]) -> Sequence[Claim]:
    return ()


# What waits aside is leased: another replica cannot take it. Of more, each replica takes what it can when it can.
_ASIDE_LIMIT = 1_000
# How many of those that are put off follow one that is done: more where another replica may have taken some.
_FOLLOWING = 1
_FOLLOWING_WHERE_FEW_WAIT = 10


@dataclass(frozen=True, slots=True)
class Aside:
    """Threads apart, shared out between accounts, for items that may take long: the others never wait for them."""

    account: Callable[[str], str]
    """Whose an item is; empty for one that is done with the others."""
    threads: int
    share: int
    """How many of these threads one account may have."""
    queue: FairQueue[Claim] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "queue", FairQueue(self.threads, self.share))


class DueWork:
    """Does what is due, `threads` items at a time, and beside them what is done aside."""

    def __init__(
        self,
        schedule: Schedule,
        due: Due,
        handle: Handle,
        clock: Clock,
        *,
        threads: int = 1,
        lease_seconds: float = 15.0,
        due_now: Callable[[], Mapping[str, int]] = dict,
        overdue: Overdue = _nothing,
        overdue_seconds: float = OVERDUE_SECONDS,
        aside: Aside | None = None,
    ) -> None:
        """`due_now` is asked at each look for what cannot wait for the next fill, `overdue` every few seconds for what
        fell due so many seconds ago."""
        self._schedule = schedule
        self._due = due
        self._due_now = due_now
        self._handle = handle
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._overdue = overdue
        self._overdue_seconds = overdue_seconds
        self._forward: deque[Claim] = deque()
        self._forwarded: dict[str, float] = {}
        self._in_work: set[Claim] = set()
        self._idle = threading.Condition()
        self._stopping = threading.Event()
        self._aside = aside
        self._put_off = PutOff()
        often = min(lease_seconds / 3, POLL_SECONDS)
        self._threads = [
            self._background("due-keeper", self.fill, "the schedule is not filled", _FILL_SECONDS, again=often),
            self._background("due-leases", self._renew, "leases are not renewed", lease_seconds / 3),
            self._background(
                "due-watch", self.bring_forward, "what is overdue is not looked for", _LOOK_SECONDS, first=_LOOK_SECONDS
            ),
            *(
                self._background(f"due-{n}", self._work, "what is due is not looked for", 0.0, again=POLL_SECONDS)
                for n in range(threads)
            ),
        ]
        if aside is not None:
            self._threads += [
                self._background(f"due-aside-{n}", partial(self._work_aside, aside), "what is due is not done", 0.0)
                for n in range(aside.threads)
            ]

    def start(self) -> None:
        """Begins."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends after the items in work, as far as they end soon; another process takes up the others."""
        self._stopping.set()
        with self._idle:
            self._idle.notify_all()
        if self._aside is not None:
            for claim in self._aside.queue.end():
                self._given_back(claim)
        for thread in self._threads:
            thread.end()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))

    @property
    def stopping(self) -> bool:
        """Whether no more work should begin."""
        return self._stopping.is_set()

    def hasten(self, item: str) -> None:
        """Has an item done now. Where Redis is away it is done once that is back, as the database says."""
        self._put_off.remove(item)
        try:
            self._schedule.fill({item: _DUE_ALREADY_US})
        except RedisError as error:
            log.warning(
                "due work waits: Redis cannot be reached",
                extra={"fields": {"item": item, "error": type(error).__name__}},
            )
        with self._idle:
            self._idle.notify()

    def fill(self) -> None:
        """Puts what the database says into the schedule, but for what is put off here."""
        due = self._due(self._clock.now_us() + _HORIZON_US)
        put_off = self._still_put_off()
        self._schedule.fill({item: at for item, at in due.items() if item not in put_off})

    def work_once(self) -> bool:
        """Claims and does one item; whether there was one."""
        claims = self._brought_forward() or self._claimed()
        for claim in claims:
            self._in_work.add(claim)
            if not self._put_aside(claim):
                self._finish(claim)
        return bool(claims)

    def bring_forward(self) -> float | None:
        """Takes up what the database says is overdue, in an order of its own: other replicas do the same. Answers in
        how many seconds to look again, where that is sooner than usual."""
        if self._forward:
            return _NEXT_LOOK_SECONDS
        now = time.monotonic()
        busy = {claim.item for claim in tuple(self._in_work)}
        left = {item: at for item, at in self._forwarded.items() if now - at < _RETRY_SECONDS}
        before_us = self._clock.now_us() - int(self._overdue_seconds * 1_000_000)
        fresh = list(self._overdue(before_us, FORWARD_AT_ONCE, busy | left.keys() | self._put_off.items()))
        self._forwarded = left | dict.fromkeys((claim.item for claim in fresh), now)
        SystemRandom().shuffle(fresh)
        self._forward = deque(fresh)
        if fresh:
            log.warning(
                "overdue work was started from the database, because the schedule in Redis did not bring it up",
                extra={"fields": {"count": len(fresh)}},
            )
            with self._idle:
                self._idle.notify_all()
        if len(fresh) < FORWARD_AT_ONCE:
            return None
        return min(max(_NEXT_LOOK_SECONDS, (time.monotonic() - now) / _LOOKS_SHARE), _LOOK_SECONDS)

    def _brought_forward(self) -> list[Claim]:
        try:
            return [self._forward.popleft()]
        except IndexError:
            return []

    def _claimed(self) -> list[Claim]:
        now_due = self._due_now()
        if now_due:
            # What failed and was put off is not brought forward by every look.
            self._schedule.add(now_due)
        return self._schedule.claim(1, self._lease_seconds)

    def _put_aside(self, claim: Claim) -> bool:
        """Whether the item is none of this thread's any more."""
        if self._aside is None:
            return False
        try:
            account = self._aside.account(claim.item)
        except StrongroomError:
            # Doing it fails likewise, and puts it off.
            return False
        if not account:
            return False
        if self._aside.queue.put(account, claim, _ASIDE_LIMIT):
            self._put_off.remove(claim.item)
        else:
            self._in_work.discard(claim)
            self._schedule.later(claim, self._put_off.add(account, claim.item))
        return True

    def _work_aside(self, aside: Aside) -> float | None:
        taken = aside.queue.take()
        if taken is None:
            return NEVER
        account, claim = taken
        try:
            self._finish(claim)
        finally:
            aside.queue.done(account)
        self._follow(account, aside.queue)
        return None

    def _still_put_off(self) -> set[str]:
        """Without what there is room for again: another replica may have done what would have been followed by it."""
        if self._aside is not None:
            for account in self._put_off.accounts():
                room = _ASIDE_LIMIT // 2 - self._aside.queue.waiting_of(account)
                self._put_off.take(account, max(room, 0))
        return self._put_off.items()

    def _follow(self, account: str, queue: FairQueue[Claim]) -> None:
        """There is room for one more of an account: those of its items that were put off for want of it are due."""
        few = queue.waiting_of(account) < _ASIDE_LIMIT // 2
        following = self._put_off.take(account, _FOLLOWING_WHERE_FEW_WAIT if few else _FOLLOWING)
        if following:
            self._schedule.fill(dict.fromkeys(following, _DUE_ALREADY_US))

    def _finish(self, claim: Claim) -> None:
        try:
            self._do(claim)
        finally:
            self._in_work.discard(claim)

    def _given_back(self, claim: Claim) -> None:
        self._in_work.discard(claim)
        try:
            self._schedule.later(claim, 0)
        except (RedisError, StrongroomError) as error:
            # Its lease ends by itself.
            log.warning(
                "due work could not be returned to the schedule; it comes up again when its lease ends",
                extra={"fields": {"error": type(error).__name__}},
            )

    def _work(self) -> None:
        if not self.work_once():
            with self._idle:
                if not self._stopping.is_set():
                    self._idle.wait(POLL_SECONDS)

    def _renew(self) -> None:
        self._schedule.renew(tuple(self._in_work), self._lease_seconds)

    def _background(
        self,
        name: str,
        work: Callable[[], float | None],
        fails: str,
        every: float,
        *,
        first: float = 0.0,
        again: float | None = None,
    ) -> Background:
        return Background(
            name,
            partial(self._mending, work),
            fails,
            every=every,
            first=first,
            again=again,
            foreseen=(RedisError,),
            # An item may take as long as the target of a rotation does, and has a lease.
            takes=NEVER,
        )

    def _mending(self, work: Callable[[], float | None]) -> float | None:
        try:
            return work()
        except RedisError as error:
            if "WRONGTYPE" in str(error):
                # Somebody put something else there, and no operation would work until it is away.
                with contextlib.suppress(RedisError, StrongroomError):
                    self._schedule.reset()
                    self.fill()
            raise

    def _do(self, claim: Claim) -> None:
        try:
            again_seconds = self._handle(claim)
        except StrongroomError as error:
            fields = {"item": ascii(claim.item[:_SHOWN]), "reason": error.reason}
            log.warning("a piece of due work failed; it is tried again", extra={"fields": fields})
            again_seconds = _RETRY_SECONDS
        except Exception:
            # One item is no reason to keep others waiting.
            log.exception(
                "a piece of due work failed; it is tried again", extra={"fields": {"item": ascii(claim.item[:_SHOWN])}}
            )
            again_seconds = _RETRY_SECONDS
        if again_seconds is None:
            self._schedule.done(claim)
        else:
            self._schedule.later(claim, again_seconds)
