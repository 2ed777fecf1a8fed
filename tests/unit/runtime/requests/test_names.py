"""Resource names: what is one, and what only looks like one."""

from __future__ import annotations

import pytest

from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests import names


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("accounts/main/secrets/db.password", ("main", "db.password", 0)),
        ("accounts/main/secrets/payments/db", ("main", "payments/db", 0)),
        ("accounts/main/secrets/payments/db/versions/12", ("main", "payments/db", 12)),
        ("accounts/main/secrets/versions-of/db", ("main", "versions-of/db", 0)),
        ("accounts/main/secrets/" + "a" * 63, ("main", "a" * 63, 0)),
    ],
)
def test_a_secrets_id_may_have_parts(name: str, parts: tuple[str, str, int]) -> None:
    parsed = names.parse(name, "name", "secrets", versioned=None)
    assert (parsed.account, parsed.id, parsed.version) == parts
    assert str(parsed) == name


@pytest.mark.parametrize(
    "rest",
    [
        "secrets/payments//db",
        "secrets/payments/",
        "secrets//db",
        "secrets/payments/.db",
        "secrets/versions/db",
        "secrets/payments/rotations",
        "secrets/payments/versions/2/versions/3",
        "secrets/payments/versions/0",
        "secrets/payments/db\n",
        "secrets/" + "a/" * 31 + "bb",
        "keys/payments/db",
        "keys/payments/versions/x",
        "keys/",
    ],
)
def test_anything_else_is_malformed(rest: str) -> None:
    with pytest.raises(StrongroomError) as refused:
        names.parse(f"accounts/main/{rest}", "name", "secrets", "keys", versioned=None)
    assert refused.value.reason is Reason.NAME_MALFORMED


def test_an_id_that_is_refused_is_told_the_form() -> None:
    with pytest.raises(
        StrongroomError, match=r"secret_id must match .* several such with / between, 63 characters"
    ) as no:
        names.check_id("payments/versions", "secrets", "secret_id")
    assert (no.value.reason, no.value.field) == (Reason.FIELD_INVALID, "secret_id")
