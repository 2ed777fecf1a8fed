"""Which SPIFFE ids principals may be known by."""

from __future__ import annotations

import pytest

from services.keystore.access.accounts.identities import SpiffeIds
from services.runtime.errors import Reason, StrongroomError

IDS = SpiffeIds("mesh.example")


def test_ids_of_the_trust_domain_are_taken_in_order() -> None:
    asked = ["spiffe://mesh.example/user/b", "spiffe://mesh.example/ns/shop/sa/orders"]
    assert IDS.checked(asked, "ids") == tuple(sorted(asked))
    assert IDS.checked([], "ids") == ()


@pytest.mark.parametrize(
    "spiffe_id",
    [
        "",
        "spiffe://mesh.example",
        "spiffe://mesh.example/",
        "spiffe://mesh.example/user//b",
        "spiffe://mesh.example.evil/user/b",
        "spiffe://mesh.examples/user/b",
        "spiffe://other.example/user/b",
        "SPIFFE://mesh.example/user/b",
        "spiffe://mesh.example/user/b?x",
        "spiffe://mesh.example/user/b#x",
        "spiffe://mesh.example/user/ä",
        "spiffe://mesh.example/service/crypto",
        "spiffe://mesh.example/" + "a" * 2048,
    ],
)
def test_everything_else_is_refused(spiffe_id: str) -> None:
    with pytest.raises(StrongroomError) as refused:
        IDS.checked([spiffe_id], "ids")
    assert (refused.value.reason, refused.value.field) == (Reason.FIELD_INVALID, "ids")


def test_there_are_at_most_sixteen_each_once() -> None:
    many = [f"spiffe://mesh.example/user/{number}" for number in range(17)]
    assert len(IDS.checked(many[:16], "ids")) == 16
    for asked, reason in ((many, Reason.FIELD_TOO_LARGE), ([many[0], many[0]], Reason.FIELD_INVALID)):
        with pytest.raises(StrongroomError) as refused:
            IDS.checked(asked, "ids")
        assert refused.value.reason is reason
