"""Callers that are not known: limited by the network they come from, and summed up in the audit log."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache

from services.runtime import identifiers
from services.runtime.access.quotas import Bucket, Limit
from services.runtime.access.rations import Ration, Rations
from services.runtime.addresses import ip_of
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError
from strongroom.audit.v1.event_pb2 import Event

# Networks and what they called: some three megabytes.
_RATIONS = 8_192
_ADDRESSES = 4_096
_ACCOUNTS = 4_096
_OF_NETWORK = Limit(rate=1.0, burst=30.0)
_OF_ALL = Limit(rate=20.0, burst=200.0)
_SUMMARIES = Limit(rate=20.0, burst=20.0)
_SUMMED_SECONDS = 1.0
_PAUSE_SECONDS = 10.0
# Of whoever was refused already, so that those who ask again do not all come at once.
_LONGEST_SECONDS = 5.0
_ALL_METHODS = ""
_IPV6_PREFIX = 64


class Strangers:
    """Counts the refusals of callers whose credential, if they brought one, was not accepted.

    One address (an IPv6 network of 64 bits) leaves an event for each of 30 calls of a method at first, then for one a
    second in the mean; all addresses together for 20 a second. Which calls have one hangs on nothing that is in their
    requests: it would tell which accounts there are. The others are summed up by account, whose `item_count` says how
    many they were: each account has a summary a second, and where there are more than 20 accounts, they take turns.
    """

    def __init__(self, limit: Limit, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._monotonic = monotonic
        self._lock = threading.Lock()
        now = monotonic()
        self._rations: Rations[tuple[str, str]] = Rations(_RATIONS)
        """By network and method, of which a process has so many: the events. By network alone: the calls."""
        self._events = Ration(now, now)
        self._summary_events = Bucket(_SUMMARIES, now)
        # In order of their turn; the second is when an account's next may be told.
        self._summaries: OrderedDict[str, Event] = OrderedDict()
        self._next: OrderedDict[str, float] = OrderedDict()

    def require(self, call: Call) -> None:
        """Raises QUOTA_EXCEEDED while a network's calls that were refused are too many: before a credential of a caller
        that nobody knows yet is looked at."""
        key, now = (network_of(call.source_address), _ALL_METHODS), self._monotonic()
        with self._lock:
            delay = self._rations.get(key, now).wait(self._limit, now)
        if delay:
            raise _exceeded(delay)

    def refused(self, call: Call, error: StrongroomError) -> StrongroomError:
        """Counts a refusal, and answers it or QUOTA_EXCEEDED. Where a summary is to tell of it the call has no
        event."""
        with self._lock:
            now = self._monotonic()
            network = network_of(call.source_address)
            has_own = self._has_own_event(network, call.method, now)
            delay = self._delay(network, now)
        if has_own:
            call.tells_of(1)
        else:
            call.told_elsewhere = True
            self._count(call, error)
        return _exceeded(delay) if delay else error

    def summaries(self, *, all_of_them: bool = False) -> Sequence[Event]:
        """The summaries whose turn it is, which are forgotten; or all there are."""
        told = []
        with self._lock:
            now = self._monotonic()
            for account in list(self._summaries):
                if not all_of_them:
                    if now < self._next.get(account, now):
                        continue
                    if self._summary_events.take(now):
                        break
                told.append(self._summaries.pop(account))
                self._next[account] = now + _SUMMED_SECONDS
                self._next.move_to_end(account)
            while self._next and next(iter(self._next.values())) <= now:
                self._next.popitem(last=False)
        return told

    def take_back(self, events: Sequence[Event]) -> None:
        """Has summaries that could not be recorded told later."""
        with self._lock:
            for event in events:
                # It may be in the log all the same.
                event.id = identifiers.event_id()
                self._sum_up(event)

    def _count(self, call: Call, error: StrongroomError) -> None:
        account, resource = (call.events[0].account, call.events[0].resource) if call.events else ("", "")
        with self._lock:
            known = self._summaries.get(account)
            if known is not None:
                _add(known, 1, call.source_address, error.reason, resource)
                return
        call.tells_of(1)
        call.fail(error)
        with self._lock:
            self._sum_up(call.events[0])

    def _sum_up(self, event: Event) -> None:
        account = event.account
        if account not in self._summaries and len(self._summaries) >= _ACCOUNTS:
            # Told where those are that name no account.
            event.account = account = ""
            event.resource = ""
        known = self._summaries.setdefault(account, event)
        if known is not event:
            _add(known, event.item_count, event.source_address, event.reason, event.resource)

    def _has_own_event(self, network: str, method: str, now: float) -> bool:
        has_own, ration = _one_more(_OF_NETWORK, self._rations.get((network, method), now), now)
        self._rations.put((network, method), ration, now)
        if has_own:
            has_own, self._events = _one_more(_OF_ALL, self._events, now)
        return has_own

    def _delay(self, network: str, now: float) -> float:
        """Takes a call of a network's. In how many seconds there is one that no earlier caller was told of; 0 where
        there was one."""
        ration, delay = self._rations.get((network, _ALL_METHODS), now), 0.0
        if wait := ration.wait(self._limit, now):
            turn = min(max(now + wait, ration.held_until), now + _LONGEST_SECONDS)
            ration, delay = ration._replace(held_until=turn + 1.0 / self._limit.rate), turn - now
        else:
            ration = ration.less(self._limit, now)
        self._rations.put((network, _ALL_METHODS), ration, now)
        return delay


def _one_more(limit: Limit, ration: Ration, now: float) -> tuple[bool, Ration]:
    """Whether one more call has an event of its own, and what is left. Where they were too many none has for a while,
    so that two calls after one another are alike in that."""
    if now < ration.held_until:
        return False, ration
    if ration.wait(limit, now):
        return False, ration._replace(held_until=now + _PAUSE_SECONDS)
    return True, ration.less(limit, now)


@lru_cache(maxsize=_ADDRESSES)
def network_of(address: str) -> str:
    """What counts as one caller's address: an IPv4 address, or the first 64 bits of an IPv6 address."""
    parsed = ip_of(address)
    if parsed is None:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False).network_address)
    return str(parsed)


def _add(summary: Event, count: int, address: str, reason: str, resource: str) -> None:
    """Adds calls to a summary, which says of them what is true of all."""
    summary.item_count += count
    summary.trace_id = ""
    if summary.source_address != address:
        summary.source_address = ""
    if summary.reason != reason:
        summary.reason = ""
    if summary.resource != resource:
        summary.resource = f"accounts/{summary.account}" if summary.account else ""


def _exceeded(delay: float) -> StrongroomError:
    return StrongroomError(
        Reason.QUOTA_EXCEEDED,
        "too many calls without a valid credential come from this address",
        retry_after_seconds=delay,
    )
