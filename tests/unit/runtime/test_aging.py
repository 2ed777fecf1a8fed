"""Cached records leave by and by, each once a round and never all at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from services.keystore.access.records.reading import LocalAccessRecords
from services.runtime.access.grants import Grants
from services.runtime.access.identity import Identities
from services.runtime.aging import MOST_PER_SECOND, ROUND_SECONDS, Aging
from services.runtime.changes import ChangeFeed, Changes, FreshCache
from tests.support.access_world import World


class Mesh:
    """A feed in which nothing ever changes, over a time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.feed = ChangeFeed(self.list_changes, lambda: self.now)
        self.feed.poll()

    def list_changes(self, since: int, /, *, timeout: float) -> Changes:
        return Changes(max(since, 7))

    def pass_(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + 0.2, end)
            self.feed.poll()


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def test_a_record_that_nobody_told_of_is_read_again(mesh: Mesh) -> None:
    cache: FreshCache[str, str] = FreshCache(mesh.feed, 10)
    assert cache.get("a", lambda: ("old", 7)) == "old"
    mesh.pass_(1)
    assert cache.get("a", lambda: pytest.fail("not kept")) == "old"
    mesh.pass_(2 * ROUND_SECONDS)
    assert cache.get("a", lambda: ("new", 7)) == "new"


@pytest.mark.parametrize("entered", [0.0, 1.0, ROUND_SECONDS / 2, ROUND_SECONDS - 1])
def test_no_record_is_older_than_two_rounds(mesh: Mesh, entered: float) -> None:
    cache: FreshCache[str, float] = FreshCache(mesh.feed, 10_000)
    for number in range(100):
        cache.get(f"always {number}", lambda: (mesh.now, 7))
    mesh.pass_(entered)
    cache.get("a", lambda: (mesh.now, 7))
    for _ in range(100):
        mesh.pass_(ROUND_SECONDS / 20)
        for number in range(100):
            read = cache.get(f"always {number}", lambda: (mesh.now, 7))
            assert mesh.now - read <= 2 * ROUND_SECONDS + 1


def test_many_records_leave_a_few_at_a_time_in_the_order_in_which_they_came() -> None:
    entries: dict[Any, Any] = {number: number for number in range(100_000)}
    aging, now, left = Aging(entries), 0.0, []
    aging.let_go(now)
    while entries:
        before = len(entries)
        now += 1.0
        aging.let_go(now)
        left.append(before - len(entries))
        assert next(iter(entries), 100_000) == 100_000 - len(entries)
    assert max(left) <= MOST_PER_SECOND
    assert now <= 100_000 / MOST_PER_SECOND + 1


def test_what_is_read_early_in_a_round_leaves_with_the_next() -> None:
    entries: dict[Any, Any] = {"old": 1}
    aging = Aging(entries)
    aging.let_go(1000.0)
    entries["new"] = 2
    aging.let_go(1000.0 + ROUND_SECONDS)
    assert list(entries) == ["new"]
    aging.let_go(1000.0 + 2 * ROUND_SECONDS)
    assert entries == {}


def test_what_left_for_its_age_alone_is_at_hand_when_it_is_read_again(mesh: Mesh) -> None:
    cache: FreshCache[str, str] = FreshCache(mesh.feed, 3_000, keeps_aged=True)
    others: FreshCache[str, str] = FreshCache(mesh.feed, 3_000)
    for number in range(2_000):
        for one in (cache, others):
            one.get(f"{number}", lambda: ("record", 7))
    assert cache.aged("0") is None
    mesh.pass_(2 * ROUND_SECONDS + 1)
    assert len(cache) == 0
    assert all(cache.aged(f"{number}") for number in range(2_000))
    # Nobody asks for those.
    assert not others.aged("0")
    # It takes no more room than one that nothing leaves.
    for number in range(2_500):
        cache.get(f"new {number}", lambda: ("record", 7))
    assert sum(1 for number in range(2_000) if cache.aged(f"{number}")) == 500
    # Not what was changed since.
    cache.drop("1999")
    assert cache.aged("1999") is None


def test_an_account_that_has_not_changed_is_the_same_when_it_is_read_again() -> None:
    """Whatever was decided by it holds, and keeps no copy of it in memory for each time that it was read."""
    world, now = World(), time.monotonic()
    world.principal("accounts/acme/users/ann")
    before = world.authorizer.account("acme")
    for aging in world.feed._aging:
        aging.let_go(now)
        aging.let_go(now + 2 * ROUND_SECONDS)
        aging.let_go(now + 4 * ROUND_SECONDS)
    world.edited("acme")
    assert "acme" not in world.authorizer._accounts
    assert world.authorizer.account("acme") is before
    world.principal("accounts/acme/users/bob")
    assert world.authorizer.account("acme") is not before


def test_every_cache_of_what_a_feed_tells_ages(mesh: Mesh) -> None:
    """Those too that are no FreshCache."""
    nothing: Any = LocalAccessRecords
    grants, identities = Grants(nothing, mesh.feed), Identities(nothing, mesh.feed, "mesh.test")
    caches: list[Callable[[], dict[Any, Any]]] = [lambda: grants._by_key, lambda: identities._tokens]
    for cache in caches:
        cache()["x"] = {}
    mesh.pass_(2 * ROUND_SECONDS + 1)
    assert [cache() for cache in caches] == [{}, {}]
