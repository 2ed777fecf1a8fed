"""Filters are read as AIP-160 has them, as far as they go, and everything else is refused with its place."""

from __future__ import annotations

import pytest

from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.filters import Term, parse


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        ("  ", []),
        ("state = ENABLED", [Term("state", "", "ENABLED")]),
        ("state=ENABLED", [Term("state", "", "ENABLED")]),
        (
            'state = ENABLED AND tags.team = "a b" AND id = x-1.y',
            [Term("state", "", "ENABLED"), Term("tags", "team", "a b"), Term("id", "", "x-1.y")],
        ),
        (r'tags."cost center" = "say \"AND\" \\"', [Term("tags", "cost center", r'say "AND" \ '.rstrip())]),
    ],
)
def test_terms_are_read(text: str, terms: list[Term]) -> None:
    assert parse(text, ("state", "id"), ("tags",)) == terms


@pytest.mark.parametrize(
    "text",
    [
        "state",
        "state =",
        "= x",
        "state = a b",
        "state = a AND",
        "state = a OR id = b",
        "state = a and id = b",
        "state = a ANDid = b",
        "colour = red",
        "tags = a",
        "state.x = a",
        'state = "a',
        "state = a; id = b",
        " AND ".join(["state = a"] * 11),
        "id = " + "x" * 5000,
    ],
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(StrongroomError) as refused:
        parse(text, ("state", "id"), ("tags",))
    assert (refused.value.reason, refused.value.metadata["field"]) == (Reason.FIELD_INVALID, "filter")
