"""Freshness: caches follow keystore's revisions, and refuse when they can no longer tell."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.runtime.changes import LATEST, STALE_SECONDS, Change, ChangeFeed, Changes, FreshCache
from services.runtime.errors import Reason, StrongroomError


class Keystore:
    """Answers ListChanges as keystore does, from a list; `now` is the time that the feed sees."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.revision = 0
        self.now = 100.0
        self.away = False
        self.kept = 1000

    def change(self, resource: str) -> None:
        self.revision += 1
        self.changes.append(Change(revision=self.revision, resource=resource))

    def list_changes(self, since: int, /, *, timeout: float) -> Changes:
        if self.away:
            raise StrongroomError(Reason.DATABASE_UNAVAILABLE, "away")
        if 0 <= since < self.revision - self.kept:
            return Changes(revision=self.revision, start_over=True)
        seen = [change for change in self.changes if since >= 0 and change.revision > since][:2]
        last = seen[-1].revision if seen else self.revision
        return Changes(changes=seen, revision=last, more=last < self.revision)


@pytest.fixture
def keystore() -> Keystore:
    return Keystore()


@pytest.fixture
def feed(keystore: Keystore) -> ChangeFeed:
    return ChangeFeed(keystore.list_changes, monotonic=lambda: keystore.now)


@pytest.fixture
def cache(feed: ChangeFeed) -> FreshCache[str, str]:
    cache: FreshCache[str, str] = FreshCache(feed, 3)

    def forget(change: Change) -> None:
        cache.drop(change.resource)

    feed.listen(forget, cache.clear)
    return cache


def test_nothing_is_answered_before_keystore_was_reached(cache: FreshCache[str, str]) -> None:
    with pytest.raises(StrongroomError) as refused:
        cache.get("a", lambda: ("record", 1))
    assert refused.value.reason is Reason.KEYSTORE_STALE


def test_a_record_is_read_once_until_it_changes(
    keystore: Keystore, feed: ChangeFeed, cache: FreshCache[str, str]
) -> None:
    feed.poll()
    assert cache.get("a", lambda: ("old", 0)) == "old"
    assert cache.get("a", lambda: pytest.fail("read twice")) == "old"
    for resource in ("b", "c", "a"):
        keystore.change(resource)
    feed.poll()
    assert cache.get("a", lambda: ("new", 3)) == "new"


def test_polls_at_once_lose_no_change_and_take_none_back(keystore: Keystore, feed: ChangeFeed) -> None:
    resets: list[None] = []
    heard: list[int] = []
    feed.listen(lambda change: heard.append(change.revision), lambda: resets.append(None))
    feed.poll()
    resets.clear()

    def change_and_poll(_: int) -> None:
        with changing:
            keystore.change("a")
            mine = keystore.revision
        feed.poll()
        assert feed.revision >= mine

    changing = threading.Lock()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(change_and_poll, range(200)))
    assert (heard, resets) == (list(range(1, 201)), [])


def test_a_record_that_a_change_overtook_is_not_kept(
    keystore: Keystore, feed: ChangeFeed, cache: FreshCache[str, str]
) -> None:
    feed.poll()

    def slow_read() -> tuple[str, int]:
        keystore.change("a")
        feed.poll()
        return "old", 0

    assert cache.get("a", slow_read) == "old"
    assert cache.get("a", lambda: ("new", 1)) == "new"


def test_five_seconds_without_keystore_refuse(
    keystore: Keystore, feed: ChangeFeed, cache: FreshCache[str, str]
) -> None:
    feed.poll()
    cache.get("a", lambda: ("record", 0))
    keystore.away = True
    keystore.now += STALE_SECONDS
    assert cache.get("a", lambda: pytest.fail("not cached")) == "record"
    keystore.now += 0.1
    with pytest.raises(StrongroomError) as refused:
        cache.get("a", lambda: ("record", 0))
    assert refused.value.reason is Reason.KEYSTORE_STALE
    keystore.away = False
    feed.poll()
    assert cache.get("a", lambda: pytest.fail("not cached")) == "record"


def test_a_revision_that_went_back_empties_the_cache(
    keystore: Keystore, feed: ChangeFeed, cache: FreshCache[str, str]
) -> None:
    keystore.revision = 7
    feed.poll()
    cache.get("a", lambda: ("before", 7))
    keystore.revision = 3
    feed.poll()
    assert cache.get("a", lambda: ("restored", 3)) == "restored"


def test_the_oldest_record_leaves_a_full_cache(feed: ChangeFeed, cache: FreshCache[str, str]) -> None:
    feed.poll()
    for key in "abcd":
        cache.get(key, lambda key=key: (key, 0))  # type: ignore[misc]
    assert len(cache) == 3
    assert cache.get("a", lambda: ("again", 0)) == "again"


def test_threads_that_miss_the_same_record_read_it_once(keystore: Keystore, feed: ChangeFeed) -> None:
    feed.poll()
    cache: FreshCache[str, str] = FreshCache(feed, 10)
    reads: list[str] = []
    reading, go_on = threading.Event(), threading.Event()

    def read() -> tuple[str, int]:
        reads.append("read")
        reading.set()
        go_on.wait(5)
        return "record", keystore.revision

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(cache.get, "a", read)
        assert reading.wait(5)
        others = [pool.submit(cache.get, "a", read) for _ in range(7)]
        go_on.set()
        assert {future.result(5) for future in (first, *others)} == {"record"}
    assert reads == ["read"]


def test_a_read_that_fails_lets_the_next_one_try(feed: ChangeFeed) -> None:
    feed.poll()
    cache: FreshCache[str, str] = FreshCache(feed, 10)

    def fail() -> tuple[str, int]:
        raise StrongroomError(Reason.KEYSTORE_UNREACHABLE, "away")

    with pytest.raises(StrongroomError):
        cache.get("a", fail)
    assert cache.get("a", lambda: ("record", 0)) == "record"


def test_a_worker_that_was_away_too_long_starts_over(
    keystore: Keystore, feed: ChangeFeed, cache: FreshCache[str, str]
) -> None:
    feed.poll()
    cache.get("a", lambda: ("old", keystore.revision))
    keystore.kept = 2
    for _ in range(3):
        keystore.change("b")

    feed.poll()

    assert cache.get("a", lambda: ("new", keystore.revision)) == "new"
    assert feed.revision == keystore.revision
    # What was read before the changes that nobody can tell of is answered, and not kept.
    assert cache.get("c", lambda: ("early", keystore.revision - 1)) == "early"
    assert cache.get("c", lambda: ("late", keystore.revision)) == "late"


def test_a_change_of_ones_own_is_seen_before_the_feed_comes_to_it(
    keystore: Keystore, feed: ChangeFeed, cache: FreshCache[str, str]
) -> None:
    feed.poll()
    cache.get("a", lambda: ("old", 0))

    def overtaken() -> tuple[str, int]:
        keystore.change("b")
        keystore.change("a")
        feed.tell(keystore.changes[-1])
        return "old", 1

    assert cache.get("c", overtaken) == "old"
    assert cache.get("a", lambda: ("new", 2)) == "new"
    # What was read before the change is not kept, whatever it is of.
    assert cache.get("c", lambda: ("new", 2)) == "new"
    feed.poll()
    assert feed.revision == 2


def test_a_cache_that_may_reads_while_the_feed_is_not_fresh(keystore: Keystore, feed: ChangeFeed) -> None:
    cache: FreshCache[str, str | None] = FreshCache(feed, 3, reads_when_stale=True)
    assert cache.get("a", lambda: ("first", 0)) == "first"
    feed.poll()
    assert cache.get("a", lambda: (None, 0)) is None
    assert cache.get("a", lambda: ("second", 0)) == "second"
    assert cache.get("a", lambda: pytest.fail("read twice")) == "second"
    keystore.now += STALE_SECONDS + 0.1
    assert cache.get("a", lambda: ("third", 0)) == "third"
    feed.poll()
    assert cache.get("a", lambda: pytest.fail("dropped")) == "second"


def test_whoever_waits_for_the_first_answer_waits_no_longer_than_it_takes() -> None:
    keystore = Keystore()
    feed = ChangeFeed(keystore.list_changes)
    keystore.away = True
    feed.start()
    feed.wait_until_fresh(0.05)
    assert feed.revision == LATEST
    keystore.away = False
    feed.wait_until_fresh(30)
    assert feed.fresh
    feed.stop()


def test_who_follows_another_than_keystore_is_told_of_that(keystore: Keystore) -> None:
    feed = ChangeFeed(keystore.list_changes, lambda: keystore.now, peer="database", stale=Reason.DATABASE_UNAVAILABLE)
    with pytest.raises(StrongroomError, match="database has not been reached") as refused:
        feed.require_fresh()
    assert refused.value.reason is Reason.DATABASE_UNAVAILABLE


def test_what_was_read_before_a_change_that_was_told_is_not_kept(feed: ChangeFeed) -> None:
    """By the one rule that every cache of records asks."""
    feed.poll()
    with feed.lock:
        assert feed.has_applied(0)
    feed.tell(Change(revision=1, resource="k"))
    with feed.lock:
        assert not feed.has_applied(0)
        assert feed.has_applied(1)
