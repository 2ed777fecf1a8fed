from __future__ import annotations

from services.runtime.work.fair_choice import choose


def test_however_many_one_owner_has_the_others_have_their_turn() -> None:
    found = [("greedy", f"greedy-{number}") for number in range(5_000)] + [("other", "one"), ("third", "two")]
    for _ in range(20):
        chosen = choose(found, 64)
        assert len(chosen) == len(set(chosen)) == 64
        assert {"one", "two"} <= set(chosen)


def test_none_of_an_owners_is_left_out_for_good() -> None:
    found = [("a", number) for number in range(100)]
    seen = {one for _ in range(60) for one in choose(found, 10)}
    # That one is never among ten of a hundred in sixty tries: once in some six hundred.
    assert len(seen) >= 95


def test_all_are_chosen_where_there_is_room_for_all() -> None:
    found = [("a", 1), ("a", 2), ("b", 3)]
    assert sorted(choose(found, 64)) == [1, 2, 3]
    assert len(choose(found, 2)) == 2
    assert choose([], 64) == []
