"""Pages: exact, and never too large for one answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests import paging
from services.runtime.requests.paging import Page
from strongroom.access.v1.access_service_pb2 import ListPoliciesRequest


def pages(items: Sequence[str], size: int) -> list[list[str]]:
    """Every page of a list whose items are its places, in order."""
    found: list[list[str]] = []
    token = ""
    while True:
        page = Page.of(ListPoliciesRequest(page_size=size, page_token=token), "things")
        rest = [item for item in items if item > page.after][: page.limit]
        messages, token = page.fill(rest, lambda item: StringValue(value=item), lambda item: item)
        found.append([message.value for message in messages])
        if not token:
            return found


def test_pages_are_of_the_size_that_was_asked_for() -> None:
    assert pages([], 2) == [[]]
    assert pages(["a", "b"], 2) == [["a", "b"]]
    assert pages(["a", "b", "c"], 2) == [["a", "b"], ["c"]]


def test_a_page_of_large_things_has_fewer() -> None:
    items = [f"{letter}{'x' * 900_000}" for letter in "abcde"]
    found = pages(items, 5)
    assert [len(page) for page in found] == [2, 2, 1]
    assert [item for page in found for item in page] == items


def test_one_thing_is_answered_however_large() -> None:
    items = [f"{letter}{'x' * 3_000_000}" for letter in "ab"]
    assert pages(items, 5) == [[items[0]], [items[1]]]


@pytest.mark.parametrize("token", ["x", "AQ==", "!"])
def test_a_token_that_no_list_gave_is_refused(token: str) -> None:
    with pytest.raises(StrongroomError) as refused:
        Page.of(ListPoliciesRequest(page_token=token), "things")
    assert refused.value.reason is Reason.PAGE_TOKEN_INVALID


def test_a_list_of_numbers_begins_with_the_newest_and_has_pages_of_its_own_size() -> None:
    numbers = range(7, 0, -1)
    found: list[list[str]] = []
    token = ""
    while not found or token:
        page = Page.of(ListPoliciesRequest(page_token=token), "numbers", default=3, largest=5)
        rest = [number for number in numbers if number < page.below(100)][: page.limit]
        messages, token = page.fill(rest, lambda number: StringValue(value=str(number)), str)
        found.append([message.value for message in messages])
    assert found == [["7", "6", "5"], ["4", "3", "2"], ["1"]]
    assert Page.of(ListPoliciesRequest(page_size=900), "numbers", default=3, largest=5).size == 5


@pytest.mark.parametrize("place", ["x", "-1", "1.2", "9" * 10, "\u0661"])
def test_a_place_that_is_no_number_is_refused(place: str) -> None:
    page = Page.of(ListPoliciesRequest(page_token=paging.encode("numbers", place)), "numbers")
    with pytest.raises(StrongroomError) as refused:
        page.below(100)
    assert refused.value.reason is Reason.PAGE_TOKEN_INVALID


def test_no_list_of_keystore_or_secrets_fills_its_pages_by_hand() -> None:
    """What fills them bounds their bytes."""
    services = Path(__file__).parents[4] / "services"
    by_hand = [
        str(path)
        for room in ("keystore", "secrets")
        for path in (services / room).rglob("*.py")
        if "paging." in path.read_text().replace("services.runtime.requests.paging", "")
    ]
    assert by_hand == []
