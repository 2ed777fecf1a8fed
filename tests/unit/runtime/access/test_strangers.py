"""Callers that are not known: summed up in the log, limited by their address."""

from __future__ import annotations

import pytest

from services.runtime.access.quotas import Limit
from services.runtime.access.strangers import Strangers, network_of
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError

INVALID = StrongroomError(Reason.TOKEN_INVALID, "no")


class Street:
    """Calls of strangers, at a time that the test sets."""

    def __init__(self, limit: Limit) -> None:
        self.now = 0.0
        self.strangers = Strangers(limit, monotonic=lambda: self.now)
        self.told: list[int] = []

    def knock(self, address: str = "192.0.2.1", account: str = "") -> Reason:
        call = Call("s", "m", "crypto:Encrypt", source_address=address)
        if account:
            call.record(call.action, "accounts/acme/clientKeys/k", account)
        error = self.strangers.refused(call, INVALID)
        assert call.told_elsewhere is not bool(call.events) or account
        if not call.told_elsewhere:
            (event,) = call.events
            self.told.append(event.item_count)
        return error.reason


def test_a_flood_without_a_credential_is_a_few_events_that_count_all_of_it() -> None:
    street = Street(Limit(10_000, 10_000))
    for _ in range(3_000):
        street.knock()
    assert len(street.told) <= 30
    street.now = 2.0
    street.knock()
    assert sum(street.told) == 3_001


def test_many_addresses_together_are_bounded_too() -> None:
    street = Street(Limit(10, 10))
    for number in range(20_000):
        street.knock(f"2001:db8:{number % 65_536:x}::1")
    assert len(street.told) <= 200
    street.now = 60.0
    street.knock("2001:db8:ffff::1")
    assert len(street.strangers._networks) <= 4_096
    assert 15_000 < sum(street.told) <= 20_001


def test_an_address_over_its_limit_is_refused_before_its_credential_is_looked_at() -> None:
    street = Street(Limit(1, 3))
    assert [street.knock() for _ in range(5)] == [Reason.TOKEN_INVALID] * 3 + [Reason.QUOTA_EXCEEDED] * 2
    with pytest.raises(StrongroomError) as refused:
        street.strangers.require(Call("s", "m", "a", source_address="192.0.2.1"))
    assert refused.value.reason is Reason.QUOTA_EXCEEDED
    assert refused.value.retry_after_seconds > 0
    street.strangers.require(Call("s", "m", "a", source_address="192.0.2.2"))
    street.now = 5.0
    street.strangers.require(Call("s", "m", "a", source_address="192.0.2.1"))


def test_refusals_that_name_an_account_are_counted_for_that_account() -> None:
    street = Street(Limit(10_000, 10_000))
    for _ in range(40):
        street.knock(account="acme")
        street.knock(account="other")
    assert len(street.told) == 60


def test_an_ipv6_caller_is_its_network_and_an_ipv4_caller_its_address() -> None:
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::1") == "2001:db8:1:2::"
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("fe80::1%eth0") == "fe80::"
    assert network_of("unix:/run/socket") == "unix:/run/socket"
