"""What a process remembers of strangers is bounded in bytes, and a flood of them frees nobody of what it has taken."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from services.runtime.access import quotas
from services.runtime.access.decisions import Account
from services.runtime.access.quotas import Limit, Quotas
from services.runtime.access.rations import Ration, Rations
from services.runtime.access.strangers import Strangers
from services.runtime.call import Call, Principal
from services.runtime.errors import Reason, StrongroomError

INVALID = StrongroomError(Reason.TOKEN_INVALID, "no")
MIB = 1 << 20


class Crowd:
    """Calls of strangers from many networks, at a time that the test sets."""

    def __init__(self, limit: Limit) -> None:
        self.now = 1_000.0
        self.strangers = Strangers(limit, monotonic=lambda: self.now)
        self._others = 0

    def knock(self, address: str, method: str = "Encrypt") -> tuple[Reason, bool]:
        """What it is answered, and whether it has an event of its own."""
        call = Call("s", method, "crypto:Encrypt", source_address=address)
        reason = self.strangers.refused(call, INVALID).reason
        return reason, not call.told_elsewhere

    def flood(self, count: int) -> None:
        """Calls of networks that were never here before."""
        for number in range(self._others, self._others + count):
            self.knock(f"2001:{number >> 16:x}:{number & 0xFFFF:x}::1")
        self._others += count


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_networks_that_call_every_method_take_a_few_megabytes() -> None:
    crowd = Crowd(Limit(100, 1_000))
    before, _ = tracemalloc.get_traced_memory()
    for network in range(400):
        for method in range(80):
            crowd.knock(f"10.0.{network >> 8}.{network & 255}", f"Method{method}")
    crowd.flood(5_000)
    after, _ = tracemalloc.get_traced_memory()
    assert len(crowd.strangers._rations) <= 8_192
    assert after - before < 4 * MIB


def test_a_flood_of_networks_frees_none_of_what_it_has_taken() -> None:
    """Each second more of them come than are remembered, while one that is over its limit asks for nothing."""
    crowd = Crowd(Limit(10, 100))
    hot = "192.0.2.1"
    for _ in range(200):
        crowd.knock(hot)
    answers = []
    for _ in range(2):
        crowd.now += 1.0
        crowd.flood(10_000)
        answers += [crowd.knock(hot) for _ in range(100)]
    passed = [reason for reason, _ in answers if reason is Reason.TOKEN_INVALID]
    # Ten a second, as if it were alone.
    assert len(passed) in (20, 21)
    assert not any(has_own for _, has_own in answers)
    with pytest.raises(StrongroomError) as refused:
        crowd.strangers.require(Call("s", "m", "a", source_address=hot))
    assert refused.value.reason is Reason.QUOTA_EXCEEDED


def test_no_network_is_refused_for_that_others_are_many() -> None:
    crowd = Crowd(Limit(10, 100))
    crowd.flood(20_000)
    assert [crowd.knock("192.0.2.1")[0] for _ in range(100)] == [Reason.TOKEN_INVALID] * 100
    crowd.flood(20_000)
    crowd.strangers.require(Call("s", "m", "a", source_address="192.0.2.2"))


def test_what_is_whole_again_is_forgotten_first_and_then_what_is_whole_soonest() -> None:
    rations: Rations[str] = Rations(3)
    rations.put("long", Ration(90.0, 0.0), 0.0)
    rations.put("short", Ration(10.0, 0.0), 0.0)
    rations.put("held", Ration(0.0, 50.0), 0.0)
    rations.put("new", Ration(20.0, 0.0), 5.0)
    assert rations.get("short", 5.0) == Ration(5.0, 5.0)
    rations.put("other", Ration(70.0, 0.0), 60.0)
    assert rations.get("long", 60.0) == Ration(90.0, 0.0)
    assert len(rations) == 3


def test_a_flood_of_principals_frees_nobody_of_a_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "_BUCKETS", 50)
    now = 1_000.0
    limit = Limit(rate=1.0, burst=10.0)
    account = cast(Account, SimpleNamespace(quotas={}))
    held = Quotas(lambda _: account, None, limit, monotonic=lambda: now)

    def called(name: str) -> bool:
        principal = Principal(f"accounts/acme/users/{name}", "acme")
        try:
            held.require(Call("s", "m", "a", principal=principal))
        except StrongroomError:
            return False
        return True

    assert [called("hot") for _ in range(12)].count(True) == 10
    for second in range(1, 4):
        for number in range(100):
            assert called(f"{second}-{number}")
            now += 0.01
        # One a second has come back, and no more.
        assert [called("hot") for _ in range(5)].count(True) <= 1
    assert len(held._buckets) <= 50
