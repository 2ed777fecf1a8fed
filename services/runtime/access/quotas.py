"""Quotas: a token bucket for each account and principal, in each worker process."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from random import uniform

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from services.runtime.access.decisions import Account
from services.runtime.access.forgetting import forget_one
from services.runtime.call import Call, Principal
from services.runtime.errors import Reason, StrongroomError
from strongroom.access.v1.access_record_service_pb2 import QuotaRecord

_BUCKETS = 100_000
_SECONDS_OF_BURST = 2.0
_TELL_SECONDS = 1.0
# To read a large request only to refuse it costs everybody else some ten milliseconds of the interpreter.
_READ_SECONDS = 10.0
_LONGEST_SECONDS = 5.0
_HELD_SECONDS = 1.0
_LONGEST_DEBT_SECONDS = 10.0
_PART_OF_ACCOUNT = 0.1
_BYTES_OF_A_REQUEST = 64 << 10
_MOST_ITEMS = 1_000
_ITEMS_OF_A_CEILING = 64.0
# What says how many items a request has, by the name of its field.
_COUNTED = ("items", "names", "count")


@dataclass(frozen=True, slots=True)
class Limit:
    """How many requests are let through; a weight is the items of a batch, and its pieces of 64 KiB."""

    rate: float
    """A second."""
    burst: float
    """At once, after a pause."""
    items: float = 1.0
    """Of a batch, that count as one request."""

    def cost(self, weight: float) -> float:
        """What a request of this weight takes."""
        return 1.0 + (weight - 1.0) / self.items


class Bucket:
    """Tokens that come back at a rate."""

    __slots__ = ("_lock", "_promised", "_refused", "_spent", "_tokens", "_told", "_updated", "limit")

    def __init__(self, limit: Limit, now: float) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._tokens = limit.burst
        self._updated = now
        self._promised = now
        self._refused = 0
        self._told = self._spent = float("-inf")

    def take(self, now: float, weight: float = 1.0) -> float:
        """Takes `weight` tokens and answers 0, as long as there is one: what is taken beyond those there are has to
        come back first. Or answers in how many seconds there will be one that no earlier caller was told of."""
        with self._lock:
            self._tokens, self._updated = min(self.limit.burst, self._refilled(now)), now
            if self._tokens >= 1.0:
                self._tokens -= weight
                return 0.0
            self._refused += 1
            soonest = now + (1.0 - self._tokens) / self.limit.rate
            turn = min(max(soonest, self._promised), now + _LONGEST_SECONDS)
            self._promised = turn + 1.0 / self.limit.rate
            return turn - now

    def refuse(self, now: float) -> float:
        """In how many seconds there will be a token, for a request that is refused before anything of it is read; 0
        where there is one, or where none was told of for a second, so that one is read and told of; for ten seconds
        after requests that cost more than they seemed."""
        with self._lock:
            tokens = self._refilled(now)
            seconds = _READ_SECONDS if now - self._spent < _READ_SECONDS else _TELL_SECONDS
            if tokens >= 1.0 or now - self._told >= seconds:
                return 0.0
            self._refused += 1
            return (1.0 - tokens) / self.limit.rate

    def full_at(self) -> float:
        """From when on it is as if nothing had been taken."""
        with self._lock:
            return max(self._updated + (self.limit.burst - self._tokens) / self.limit.rate, self._promised)

    def wait(self, now: float) -> float:
        """In how many seconds there will be a token; takes none."""
        with self._lock:
            tokens = self._refilled(now)
            return max((1.0 - tokens) / self.limit.rate, 0.0) if self.limit.burst >= 1.0 else 0.0

    def spend(self, now: float, weight: float) -> None:
        """Takes tokens whether or not there are any, down to what comes back within ten seconds."""
        with self._lock:
            self._spent = now
            self._tokens, self._updated = min(self.limit.burst, self._refilled(now)), now
            self._tokens = max(self._tokens - weight, min(self._tokens, -_LONGEST_DEBT_SECONDS * self.limit.rate))

    def give_back(self, weight: float = 1.0) -> None:
        """Returns tokens that were not used after all."""
        with self._lock:
            self._tokens += weight

    def refusals_to_tell(self, now: float) -> int:
        """How many requests were refused since this was last above 0, which it is once a second."""
        with self._lock:
            if now - self._told < _TELL_SECONDS:
                return 0
            self._told, refused, self._refused = now, self._refused, 0
            return refused

    def _refilled(self, now: float) -> float:
        """The tokens by now, as if there were no burst to hold them to. The lock is held."""
        return self._tokens + (now - self._updated) * self.limit.rate


class Quotas:
    """Lets requests through as long as their account and their principal have not used up what they may."""

    def __init__(
        self,
        account: Callable[[str], Account],
        account_default: Limit | None = None,
        principal_default: Limit | None = None,
        *,
        held_refusals: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._account = account
        self._account_default = account_default
        self._principal_default = principal_default
        self._monotonic = monotonic
        self._sleep = sleep
        self._places = threading.Semaphore(held_refusals)
        self._making = threading.Lock()
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def require(self, call: Call, weight: float = 1.0) -> None:
        """Takes a request of the call's principal, which counts as so many. Raises QUOTA_EXCEEDED, with the seconds
        until one is let through.

        A flood must not fill the audit log: one event a second tells of the requests that were refused, by its
        `item_count`; a call without an event was among them.
        """
        principal = call.principal
        if not principal.account:
            return
        account = self._account(principal.account)
        name = f"accounts/{principal.account}"
        own = self._taken(name, _limit(account.quotas.get(name), self._account_default), call, weight)
        limit = self._principal_limit(account, principal)
        try:
            self._taken(principal.name, limit, call, weight)
        except StrongroomError:
            if own is not None:
                own.give_back(own.limit.cost(weight))
            raise

    def refusal(self, account: str, principal: str) -> StrongroomError | None:
        """What a request of this principal's is refused with before it is read, while quotas are overdrawn."""
        now = self._monotonic()
        for target in (f"accounts/{account}", principal):
            bucket = self._buckets.get(target)
            delay = bucket.refuse(now) if bucket is not None else 0.0
            if bucket is not None and delay:
                return _exceeded(target, bucket.limit, delay)
        return None

    def charge(self, call: Call, weight: float) -> None:
        """Takes as many requests more of the principal, which has to earn them back before its next is let through: for
        what turns out to cost more than it seemed. Of its account a tenth is taken: others are not locked out with it,
        and one that does the same in turn by many principals is."""
        for target, part in ((call.principal.name, 1.0), (f"accounts/{call.principal.account}", _PART_OF_ACCOUNT)):
            bucket = self._buckets.get(target)
            if bucket is not None:
                bucket.spend(self._monotonic(), weight * part)

    def hold(self, refusal: StrongroomError) -> None:
        """Has a caller wait a moment for its refusal, as long as there is a place: who asks again at once would take
        from everybody else what refusing costs."""
        if self._places.acquire(blocking=False):
            try:
                # Not all for the same time, or they would come back together.
                spread = uniform(0.5, 1.5)  # noqa: S311  # nothing secret hangs on it
                self._sleep(min(refusal.retry_after_seconds, _HELD_SECONDS * spread))
            finally:
                self._places.release()

    def _principal_limit(self, account: Account, principal: Principal) -> Limit | None:
        own = account.quotas.get(principal.name)
        if own is not None and own.HasField("requests_per_second"):
            return _limit(own, None)
        of_account = account.quotas.get(f"accounts/{principal.account}")
        if of_account is not None and of_account.HasField("default_principal_requests_per_second"):
            rate = of_account.default_principal_requests_per_second
            return Limit(rate, default_burst(rate))
        return self._principal_default

    def _taken(self, target: str, limit: Limit | None, call: Call, weight: float) -> Bucket | None:
        if limit is None:
            return None
        now = self._monotonic()
        bucket = self._buckets.get(target)
        if bucket is None or bucket.limit != limit:
            bucket = self._new_bucket(target, limit, now)
        delay = bucket.take(now, limit.cost(weight))
        if not delay:
            return bucket
        # An exchange of a credential has begun one, which would be one for each refusal.
        call.events.clear()
        refused = bucket.refusals_to_tell(now)
        if refused:
            call.record(call.action, target, call.principal.account, item_count=refused)
        else:
            call.told_elsewhere = True
        raise _exceeded(target, limit, delay)

    def _new_bucket(self, target: str, limit: Limit, now: float) -> Bucket:
        bucket = Bucket(limit, now)
        with self._making:
            if target not in self._buckets and len(self._buckets) >= _BUCKETS:
                forget_one(self._buckets, Bucket.full_at, now)
            self._buckets[target] = bucket
        return bucket


def _exceeded(target: str, limit: Limit, delay: float) -> StrongroomError:
    return StrongroomError(
        Reason.QUOTA_EXCEEDED,
        f"{target} is over its quota of {limit.rate:g} requests a second",
        retry_after_seconds=delay,
        target=target,
    )


def ceiling(rate: float, burst: float) -> Limit:
    """A limit on what a process has to do, for whoever has no quota: measured, 50 to 80 items of a batch cost it as
    much as a call of their own does."""
    return Limit(rate, burst, _ITEMS_OF_A_CEILING)


def weigher(method: MethodDescriptor) -> Callable[[Message, int], float]:
    """How many requests one of this method, of so many bytes, weighs: each item of a batch is one, and each 64 KiB
    are."""
    fields = method.input_type.fields_by_name
    name = next((name for name in _COUNTED if name in fields), "")

    def weight(request: Message, message_bytes: int) -> float:
        size = 1 + message_bytes // _BYTES_OF_A_REQUEST
        if not name:
            return size
        counted = getattr(request, name)
        return max(size, min(counted if isinstance(counted, int) else len(counted), _MOST_ITEMS))

    return weight


def _limit(quota: QuotaRecord | None, default: Limit | None) -> Limit | None:
    if quota is None or not quota.HasField("requests_per_second"):
        return default
    return Limit(quota.requests_per_second, quota.burst or default_burst(quota.requests_per_second))


def default_burst(rate: float) -> float:
    """Where none was set: two seconds' worth, at least 1."""
    return max(_SECONDS_OF_BURST * rate, 1.0)
