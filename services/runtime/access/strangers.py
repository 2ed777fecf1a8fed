"""Callers that are not known: limited by the network they come from, and summed up in the audit log."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

from services.runtime.access.quotas import Bucket, Limit
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError

_NETWORKS = 4_096
_OF_NETWORK = Limit(rate=1.0, burst=30.0)
_OF_ALL = Limit(rate=20.0, burst=200.0)
_IPV6_PREFIX = 64


class _Network:
    """What came of late from one network for one account."""

    __slots__ = ("calls", "events", "untold")

    def __init__(self, calls: Limit, now: float) -> None:
        self.calls = Bucket(calls, now)
        self.events = Bucket(_OF_NETWORK, now)
        self.untold = 0


class Strangers:
    """Counts the refusals of callers whose credential, if they brought one, was not accepted.

    One address (an IPv6 network of 64 bits) leaves an event for each at first, then one a second, whose `item_count`
    says how many calls were refused since the one before it; all addresses together leave 20 a second.
    """

    def __init__(self, limit: Limit, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._networks: OrderedDict[tuple[str, str], _Network] = OrderedDict()
        self._events = Bucket(_OF_ALL, monotonic())
        self._untold = 0

    def require(self, call: Call) -> None:
        """Raises QUOTA_EXCEEDED while a network's calls that were refused are too many: before a credential of a caller
        that nobody knows yet is looked at."""
        with self._lock:
            network = self._networks.get((network_of(call.source_address), ""))
        if network is not None and (delay := network.calls.wait(self._monotonic())):
            raise _exceeded(delay)

    def refused(self, call: Call, error: StrongroomError) -> StrongroomError:
        """Counts a refusal, and answers it or QUOTA_EXCEEDED. Where another event tells of it the call has none."""
        address = network_of(call.source_address)
        account = call.events[0].account if call.events else ""
        with self._lock:
            now = self._monotonic()
            of_calls = self._network((address, ""), now)
            network = of_calls if not account else self._network((address, account), now)
            told = 0
            if not network.events.take(now):
                # Counts of networks that were forgotten go to whoever is told of next.
                told = self._told(network, now)
            else:
                network.untold += 1
            delay = of_calls.calls.take(now)
        if told:
            call.tells_of(told)
        else:
            call.told_elsewhere = True
        return _exceeded(delay) if delay else error

    def _told(self, network: _Network, now: float) -> int:
        if self._events.take(now):
            network.untold += 1
            return 0
        told = network.untold + 1 + self._untold
        network.untold = self._untold = 0
        return told

    def _network(self, key: tuple[str, str], now: float) -> _Network:
        network = self._networks.get(key)
        if network is None:
            if len(self._networks) >= _NETWORKS:
                _, oldest = self._networks.popitem(last=False)
                self._untold += oldest.untold
            network = self._networks[key] = _Network(self._limit, now)
        else:
            self._networks.move_to_end(key)
        return network


@lru_cache(maxsize=_NETWORKS)
def network_of(address: str) -> str:
    """What counts as one caller's address: an IPv4 address, or the first 64 bits of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped or ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False).network_address)
    return str(parsed)


def _exceeded(delay: float) -> StrongroomError:
    return StrongroomError(
        Reason.QUOTA_EXCEEDED,
        "too many calls without a valid credential come from this address",
        retry_after_seconds=delay,
    )
