"""Token buckets: what is let through, when the next may come, and how a flood is told of."""

from __future__ import annotations

import pytest

from services.runtime.access.decisions import Account
from services.runtime.access.quotas import Bucket, Limit, Quotas, ceiling
from services.runtime.errors import Reason, StrongroomError
from strongroom.access.v1.access_record_service_pb2 import AccountAccess, QuotaRecord
from tests.support.access_world import call_of

ACCOUNT, ANN, BOB = "accounts/acme", "accounts/acme/users/ann", "accounts/acme/users/bob"


class Requests:
    """Requests that are let through or refused, at a time that the test sets."""

    def __init__(self, *quotas: QuotaRecord, account: Limit | None = None, principal: Limit | None = None) -> None:
        self.now = 0.0
        self.access = AccountAccess(account="acme", quotas=quotas)
        self.slept: list[float] = []
        self.quotas = Quotas(
            self._account, account, principal, held_refusals=1, monotonic=lambda: self.now, sleep=self.slept.append
        )
        self.told: list[tuple[str, int]] = []

    def _account(self, name: str) -> Account:
        return Account(self.access if name == "acme" else AccountAccess(account=name), None)  # type: ignore[arg-type]

    def send(self, principal: str = ANN) -> float:
        """0 when it is let through, or the seconds to wait."""
        call = call_of(principal)
        try:
            self.quotas.require(call)
        except StrongroomError as refused:
            assert refused.reason is Reason.QUOTA_EXCEEDED
            assert refused.retry_after_seconds > 0
            return refused.retry_after_seconds
        finally:
            self.told += [(event.resource, event.item_count) for event in call.events]
        return 0.0

    def let_through(self, count: int, principal: str = ANN) -> int:
        return sum(not self.send(principal) for _ in range(count))


def test_without_a_quota_everything_is_let_through() -> None:
    requests = Requests()
    assert requests.let_through(1000) == 1000
    assert requests.send("services/secrets") == 0


def test_a_burst_and_then_the_rate() -> None:
    requests = Requests(QuotaRecord(target=ACCOUNT, requests_per_second=10, burst=5))
    assert requests.let_through(5) == 5
    assert requests.send() == pytest.approx(0.1)
    requests.now = 0.1
    assert requests.let_through(5) == 1
    requests.now = 1000
    assert requests.let_through(20) == 5


def test_a_burst_that_was_not_set_is_two_seconds_worth_and_at_least_one() -> None:
    assert Requests(QuotaRecord(target=ACCOUNT, requests_per_second=10)).let_through(100) == 20
    assert Requests(QuotaRecord(target=ACCOUNT, requests_per_second=0.1)).let_through(100) == 1


def test_one_principal_does_not_use_up_what_another_may() -> None:
    requests = Requests(QuotaRecord(target=ACCOUNT, default_principal_requests_per_second=2))
    assert (requests.let_through(10), requests.let_through(10, BOB)) == (4, 4)


def test_a_principals_own_quota_wins_over_the_accounts_default() -> None:
    requests = Requests(
        QuotaRecord(target=ACCOUNT, default_principal_requests_per_second=1),
        QuotaRecord(target=ANN, requests_per_second=5, burst=7),
    )
    assert (requests.let_through(10), requests.let_through(10, BOB)) == (7, 2)


def test_a_refused_principal_takes_nothing_of_its_accounts_quota() -> None:
    requests = Requests(
        QuotaRecord(target=ACCOUNT, requests_per_second=1, burst=10),
        QuotaRecord(target=ANN, requests_per_second=1, burst=1),
    )
    assert (requests.let_through(50), requests.let_through(50, BOB)) == (1, 9)


def test_the_configurations_limits_hold_where_none_was_set() -> None:
    requests = Requests(account=Limit(1, 3), principal=Limit(1, 2))
    assert (requests.let_through(9), requests.let_through(9, BOB)) == (2, 1)


def test_a_quota_that_changes_holds_at_once() -> None:
    requests = Requests(QuotaRecord(target=ACCOUNT, requests_per_second=1, burst=1))
    assert requests.let_through(5) == 1
    requests.access.quotas[0].burst = 4
    assert requests.let_through(5) == 4


def test_a_refused_caller_waits_while_there_is_a_place_and_no_longer_than_a_moment() -> None:
    requests = Requests()
    requests.quotas.hold(StrongroomError(Reason.QUOTA_EXCEEDED, "", retry_after_seconds=0.1))
    requests.quotas.hold(StrongroomError(Reason.QUOTA_EXCEEDED, "", retry_after_seconds=60))
    assert requests.slept[0] == 0.1
    assert 0.5 <= requests.slept[1] <= 1.5


def test_callers_over_a_quota_are_told_to_come_one_after_another_and_within_five_seconds() -> None:
    requests = Requests(QuotaRecord(target=ACCOUNT, requests_per_second=10, burst=1))
    requests.send()
    delays = [requests.send() for _ in range(100)]
    assert delays[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert delays == sorted(delays)
    assert delays[-1] == pytest.approx(5.0)


def test_a_flood_is_told_of_once_a_second_with_how_many_it_were() -> None:
    requests = Requests(QuotaRecord(target=ACCOUNT, requests_per_second=0.1, burst=1))
    requests.let_through(100)
    assert requests.told == [(ACCOUNT, 1)]
    requests.now = 1.0
    requests.let_through(100)
    assert requests.told == [(ACCOUNT, 1), (ACCOUNT, 99)]


def test_a_batch_counts_as_its_items_and_has_to_be_earned_back() -> None:
    requests = Requests(QuotaRecord(target=ACCOUNT, requests_per_second=10, burst=20))
    requests.quotas.require(call_of(ANN), 100)
    assert requests.send() == pytest.approx(5.0)  # what is told at most
    requests.now = 8.0
    assert requests.send() > 0
    requests.now = 8.2
    assert requests.send() == 0


def test_what_turns_out_to_cost_more_is_earned_back_within_ten_seconds() -> None:
    requests = Requests(QuotaRecord(target=ANN, requests_per_second=10, burst=20))
    call = call_of(ANN)
    requests.quotas.require(call)
    requests.quotas.charge(call, 1_000_000)
    requests.now = 9.9
    assert requests.send() > 0
    assert requests.send(BOB) == 0
    requests.now = 10.2
    assert requests.send() == 0


def test_a_ceiling_counts_what_a_batch_costs_and_not_its_items() -> None:
    requests = Requests(account=ceiling(10, 20), principal=ceiling(10, 20))
    for _ in range(4):
        requests.quotas.require(call_of(ANN), 257)
    assert requests.send() > 0
    call = call_of(BOB)
    requests.now = 100.0
    requests.quotas.require(call, 257)
    requests.quotas.charge(call, 100)
    requests.now = 106.0
    assert requests.send(BOB) > 0
    assert requests.send(ANN) == 0


def test_who_is_overdrawn_is_refused_unread_but_for_one_a_second() -> None:
    bucket = Bucket(Limit(1.0, 1.0), 0.0)
    assert bucket.refuse(0.0) == 0.0
    assert bucket.take(0.0) == 0.0
    assert bucket.take(0.0) > 0.0
    assert bucket.refusals_to_tell(0.0) == 1
    assert bucket.refuse(0.5) > 0.0
    assert bucket.refuse(0.5) > 0.0
    assert bucket.take(0.9) > 0.0
    # Those that were not read are told of with the next that is.
    assert bucket.refusals_to_tell(1.0) == 3
