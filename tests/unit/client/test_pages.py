"""Lists that come in pages, and masks of updates."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from strongroom.calls.base import mask_of, pages
from strongroom.errors import StrongroomError


class Pages:
    """Numbers from 0, three a page unless asked for fewer, of which the second page is empty."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.sizes: list[int] = []

    def __call__(self, token: str, size: int) -> tuple[Iterator[int], str]:
        self.sizes.append(size)
        if token == "empty":
            return iter(()), "3"
        start = int(token or 0)
        end = min(start + min(size, 3), self.total)
        following = "" if end == self.total else "empty" if end == 3 else str(end)
        return iter(range(start, end)), following


@pytest.mark.parametrize("total", [0, 1, 3, 4, 10])
def test_every_item_comes_once_over_all_pages_also_empty_ones(total: int) -> None:
    assert list(pages(Pages(total), None)) == list(range(total))


@pytest.mark.parametrize("limit", [1, 3, 4, 7, 100])
def test_no_more_than_the_limit_are_answered(limit: int) -> None:
    assert list(pages(Pages(10), limit)) == list(range(min(limit, 10)))


def test_pages_are_fetched_as_they_are_needed_and_all_of_one_size() -> None:
    source = Pages(10)
    items = pages(source, 5)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    assert len(source.sizes) == 1
    assert list(items) == [3, 4]
    assert set(source.sizes) == {5}


def test_an_update_names_what_is_given_and_never_everything() -> None:
    assert mask_of({"description": "", "tags": None, "disabled": False}).paths == ["description", "disabled"]
    with pytest.raises(StrongroomError) as refusal:
        mask_of({"description": None, "tags": None})
    assert refusal.value.reason == "FIELD_REQUIRED"
