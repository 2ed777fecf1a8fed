"""A cache that tenants share: what one of them fills it with is what that one loses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.access.shares import SharedCache


def test_who_fills_the_cache_loses_entries_and_nobody_else_does() -> None:
    cache: SharedCache[int, str] = SharedCache(1_000)
    cache.put("quiet", 0, "kept", 100)
    for number in range(10_000):
        cache.put("loud", number, "x", 10)
    assert cache.get("quiet", 0) == "kept"
    assert cache.get("loud", 9_999) == "x"
    assert cache.get("loud", 0) is None
    assert cache.size <= 1_000


def test_what_grows_counts() -> None:
    cache: SharedCache[int, str] = SharedCache(1_000)
    cache.put("quiet", 0, "kept", 100)
    cache.put("loud", 0, "x", 10)
    cache.grow("loud", 0, 900)
    assert (cache.get("loud", 0), cache.get("quiet", 0), cache.size) == (None, "kept", 100)
    cache.grow("loud", 0, 900)
    assert cache.size == 100


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.integers(1, 400)), max_size=60))
def test_the_size_is_that_of_what_is_kept_and_within_the_capacity(puts: list[tuple[str, int, int]]) -> None:
    cache: SharedCache[int, int] = SharedCache(1_000)
    for tenant, key, size in puts:
        cache.put(tenant, key, size, size)
        kept = [cache.get(one, number) or 0 for one in "abc" for number in range(6)]
        assert sum(kept) == cache.size == sum(map(cache.size_of, "abc")) <= 1_000
