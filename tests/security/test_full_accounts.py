"""Whoever fills an account up takes from nobody what slows it down, narrows it or stops it."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.keystore.access.editing import plans
from services.keystore.access.records.resources import Quota
from services.runtime.errors import Reason, StrongroomError
from tests.unit.keystore.access.editing.test_order import ACCOUNT, ANN, EDITS, World

LIMITS = (
    "MAX_ACCOUNT_CHARACTERS",
    "MAX_RECORDS",
    "MAX_PRINCIPALS",
    "MAX_CLIENT_KEYS_KEPT",
    "MAX_DECISION",
)
GROWS = {
    "Policies.create",
    "Policies.attach",
    "Principals.create",
    "Principals.set_tags",
    "ClientKeys.create",
    "OidcProviders.create",
}


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path / "world")
    for limit in LIMITS:
        monkeypatch.setattr(plans, limit, 1)
    for reserve in ("RESERVED_RECORDS", "RESERVED_CHARACTERS"):
        monkeypatch.setattr(plans, reserve, 0)
    return world


@pytest.mark.parametrize("target", [ACCOUNT, ANN])
def test_who_fills_an_account_is_slowed_down(full: World, target: str) -> None:
    paths = ("requests_per_second", "burst", "default_principal_requests_per_second")
    for rate in (1.0, 0.5):
        limited = full.quotas.update(full.call(), Quota(target, rate, 1, 1.0), paths, "")
        assert limited.requests_per_second == rate
    assert full.quotas.get(full.call(), target).burst == 1


@pytest.mark.parametrize("name", sorted(set(EDITS) - GROWS))
def test_a_full_account_refuses_no_change_that_adds_nothing(full: World, name: str) -> None:
    EDITS[name](full)


@pytest.mark.parametrize("name", sorted(GROWS))
def test_a_full_account_takes_no_more(full: World, name: str) -> None:
    with pytest.raises(StrongroomError) as refused:
        EDITS[name](full)
    assert refused.value.reason is Reason.LIMIT_EXCEEDED
