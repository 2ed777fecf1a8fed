"""Places that nobody can take for themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.rpc.places import Places


def test_the_oldest_of_the_greediest_gives_way() -> None:
    places: Places[str] = Places(4)
    for holder, group in (("victim", "v"), ("a1", "a"), ("a2", "a"), ("a3", "a")):
        assert places.enter(holder, group) is None
    assert places.enter("other", "o") == "a1"
    assert sorted(places.holders()) == ["a2", "a3", "other", "victim"]


def test_who_had_to_go_holds_nothing_and_whoever_left_frees_a_place() -> None:
    places: Places[int] = Places(1)
    assert places.enter(1, "a") is None
    assert places.enter(2, "b") == 1
    assert not places.leave(1)
    assert places.leave(2)
    assert places.enter(3, "a") is None


def test_of_the_oldest_no_more_than_a_limit_stay_and_the_greediest_gives_way() -> None:
    places: Places[int] = Places(20)
    for holder, group in ((1, "v"), (2, "a"), (3, "a"), (4, "a"), (5, "a"), (6, "v"), (7, "a")):
        places.enter(holder, group)
    assert places.surplus(4, lambda holder: holder < 7) == [2, 3]
    assert places.surplus(6, lambda holder: holder < 7) == []
    assert places.surplus(0, lambda holder: holder > 1) == []


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.booleans()), max_size=200))
def test_there_are_never_more_than_the_limit(steps: list[tuple[int, str, bool]]) -> None:
    places: Places[tuple[int, int]] = Places(5)
    held: list[tuple[int, int]] = []
    for number, (_, group, leaves) in enumerate(steps):
        if leaves and held:
            assert places.leave(held.pop(0))
            continue
        displaced = places.enter((number, 0), group)
        if displaced is not None:
            held.remove(displaced)
        held.append((number, 0))
        assert len(places) == len(held) <= 5
    assert places.holders() == held
    assert places.oldest() == (held[0] if held else None)
