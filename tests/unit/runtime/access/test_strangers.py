"""Callers that are not known: summed up in the log, limited by their address."""

from __future__ import annotations

from collections import Counter

import pytest

from services.runtime.access.quotas import Limit
from services.runtime.access.strangers import Strangers, network_of
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError
from strongroom.audit.v1.event_pb2 import OUTCOME_DENIED, Event

INVALID = StrongroomError(Reason.TOKEN_INVALID, "no")


class Street:
    """Calls of strangers, at a time that the test sets."""

    def __init__(self, limit: Limit) -> None:
        self.now = 0.0
        self.strangers = Strangers(limit, monotonic=lambda: self.now)
        self.own: list[Event] = []
        """Events of calls."""
        self.summaries: list[Event] = []

    def knock(self, address: str = "192.0.2.1", account: str = "", resource: str = "") -> Reason:
        call = Call("s", "m", "crypto:Encrypt", source_address=address)
        if account or resource:
            call.record(call.action, resource or f"accounts/{account}/clientKeys/k", account)
        error = self.strangers.refused(call, INVALID)
        if not call.told_elsewhere:
            (event,) = call.events
            self.own.append(event)
        return error.reason

    def sum_up(self) -> None:
        self.summaries += self.strangers.summaries()

    @property
    def told(self) -> Counter[str]:
        """Calls that the log knows of, by account."""
        told: Counter[str] = Counter()
        for event in (*self.own, *self.summaries):
            told[event.account] += event.item_count
        return told


def test_a_flood_without_a_credential_is_a_few_events_that_count_all_of_it() -> None:
    street = Street(Limit(10_000, 10_000))
    for _ in range(3_000):
        street.knock()
    street.sum_up()
    assert len(street.own) <= 30
    (summary,) = street.summaries
    assert (summary.outcome, summary.reason, summary.source_address) == (OUTCOME_DENIED, "TOKEN_INVALID", "192.0.2.1")
    assert street.told.total() == 3_000


def test_many_addresses_together_are_bounded_too() -> None:
    street = Street(Limit(10, 10))
    for number in range(20_000):
        street.knock(f"2001:db8:{number % 65_536:x}::1")
    street.sum_up()
    assert len(street.own) <= 200
    assert len(street.strangers._rations) <= 8_192
    assert [event.source_address for event in street.summaries] == [""]
    assert street.told.total() == 20_000


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


def test_which_refusals_have_an_event_of_their_own_hangs_on_no_account() -> None:
    """Else the answer would tell a stranger which accounts there are."""

    def have_own(accounts: list[str]) -> list[bool]:
        street, found = Street(Limit(10_000, 10_000)), []
        for number, account in enumerate(accounts):
            street.now = number / 20
            before = len(street.own)
            street.knock(account=account, resource=f"accounts/{account or number}/clientKeys/k")
            found.append(len(street.own) > before)
            street.sum_up()
        return found

    absent = have_own([""] * 400)
    assert absent == have_own(["acme"] * 400)
    assert absent == have_own([f"a-{number}" for number in range(400)])
    assert absent == have_own(["", "acme"] * 200)
    assert {True, False} == set(absent)


def test_a_flood_hides_no_guesses_at_another_account() -> None:
    """400 calls a second from 2,000 networks, and ten guesses a second at one account among them."""
    street = Street(Limit(10_000, 10_000))
    guesses = 0
    for tick in range(2_400):
        street.now = tick / 100
        for one in range(4):
            street.knock(f"2001:db8:{(tick * 4 + one) % 2_000:x}::1", account=f"a-{(tick + one) % 40}")
        if tick % 10 == 0:
            street.knock("2001:db9::1", account="victim")
            guesses += 1
        if tick % 50 == 0:
            street.sum_up()
    told_in_time = street.told["victim"]
    for _ in range(3):
        street.now += 1.0
        street.sum_up()
    assert street.told["victim"] == guesses
    # With 41 accounts in turns, each is told of every few seconds.
    assert guesses - told_in_time <= 50
    of_victim = [event for event in street.summaries if event.account == "victim"]
    assert {(event.source_address, event.resource) for event in of_victim} == {
        ("2001:db9::1", "accounts/victim/clientKeys/k")
    }
    assert len(street.own) + len(street.summaries) <= 40 * 34 + 220


def test_an_account_has_a_summary_a_second_at_most() -> None:
    street = Street(Limit(10_000, 10_000))
    for tick in range(1_000):
        street.now = tick / 100
        street.knock(account="acme", resource=f"accounts/acme/clientKeys/{tick}")
        street.sum_up()
    assert len(street.summaries) <= 11
    assert {event.resource for event in street.summaries if event.item_count > 1} == {"accounts/acme"}


def test_what_could_not_be_recorded_is_told_later() -> None:
    street = Street(Limit(10_000, 10_000))
    for _ in range(50):
        street.knock(account="acme")
    lost = street.strangers.summaries()
    street.strangers.take_back(lost)
    street.knock(account="acme")
    street.summaries += street.strangers.summaries(all_of_them=True)
    assert street.told == {"acme": 51}


def test_accounts_beyond_those_that_are_kept_are_summed_up_together() -> None:
    street = Street(Limit(10_000, 10_000))
    for number in range(5_000):
        street.knock(account=f"a-{number}")
    assert len(street.strangers._summaries) <= 4_097
    street.summaries += street.strangers.summaries(all_of_them=True)
    assert street.told.total() == 5_000


def test_an_ipv6_caller_is_its_network_and_an_ipv4_caller_its_address() -> None:
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::1") == "2001:db8:1:2::"
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("fe80::1%eth0") == "fe80::"
    assert network_of("unix:/run/socket") == "unix:/run/socket"
