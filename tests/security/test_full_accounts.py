"""Whoever fills an account up takes from nobody what slows it down, narrows it or stops it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from sqlalchemy import select

from services.keystore.access.accounts import ended_grants
from services.keystore.access.editing import plans
from services.keystore.access.records import contents, ended_names, grant_store
from services.keystore.access.records.grant_store import Grant
from services.keystore.access.records.resources import Principal, Quota
from services.keystore.access.records.tables import ended_names as ended_names_table
from services.keystore.access.records.tables import principals
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.storage.database import reading, transaction
from strongroom.access.v1.grant_pb2 import GrantConstraint
from tests.unit.keystore.access.editing.test_order import ACCOUNT, ANN, EDITS, NUMBERED, World

LOOKED = "looked through"

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


# --- what an account ever held


def test_principals_come_and_go_for_as_long_as_they_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "world")
    monkeypatch.setattr(plans, "MAX_PRINCIPALS_KEPT", 8)
    for number in range(30):
        name = f"{ACCOUNT}/users/short-{number}"
        world.principals.create(world.call(), Principal(name, "", {}), None)
        world.principals.delete(world.call(), name, "")
    with reading(world.engine) as connection:
        kept = connection.execute(select(principals.c.name).where(principals.c.deleted_us.is_not(None))).scalars().all()
    assert kept == [f"{ACCOUNT}/users/short-29"]
    for number in (0, 15, 29):
        with pytest.raises(StrongroomError) as refused:
            world.principals.create(world.call(), Principal(f"{ACCOUNT}/users/short-{number}", "", {}), None)
        assert refused.value.reason is Reason.ALREADY_EXISTS
        assert refused.value.metadata["field"] == "principal_id"


def test_an_account_that_had_too_many_before_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "world")
    with monkeypatch.context() as before:
        before.setattr(ended_names, "fold", lambda *_: None)
        for number in range(12):
            name = f"{ACCOUNT}/users/short-{number}"
            world.principals.create(world.call(), Principal(name, "", {}), None)
            world.principals.delete(world.call(), name, "")
    monkeypatch.setattr(plans, "MAX_PRINCIPALS_KEPT", 8)
    world.principals.create(world.call(), Principal(f"{ACCOUNT}/users/more", "", {}), None)


def test_those_whose_grants_have_not_ended_are_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "world")
    monkeypatch.setattr(ended_grants, "end_of", lambda *_: None)
    key = ResourceName("acme", "keys", "k")
    for number in range(4):
        name = f"{ACCOUNT}/users/short-{number}"
        world.principals.create(world.call(), Principal(name, "", {}), None)
        grant = ResourceName("acme", "grants", f"g{number}")
        with transaction(world.engine) as connection:
            made = Grant(grant, key, bytes(16), name, ("crypto:Sign",), GrantConstraint(), name, "", ANN, None, 1)
            grant_store.insert_grant(connection, made)
        world.principals.delete(world.call(), name, "")
    monkeypatch.setattr(plans, "MAX_PRINCIPALS_KEPT", 7)
    with pytest.raises(StrongroomError) as refused:
        world.principals.create(world.call(), Principal(f"{ACCOUNT}/users/more", "", {}), None)
    assert refused.value.reason is Reason.LIMIT_EXCEEDED
    monkeypatch.undo()
    for number in range(4):
        ended_grants.end_of(world.editor, f"{ACCOUNT}/users/short-{number}")
    monkeypatch.setattr(plans, "MAX_PRINCIPALS_KEPT", 7)
    world.principals.create(world.call(), Principal(f"{ACCOUNT}/users/more", "", {}), None)


def test_nobody_frees_a_name_behind_the_service_s_back(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    for number in range(2):
        name = f"{ACCOUNT}/users/short-{number}"
        world.principals.create(world.call(), Principal(name, "", {}), None)
        world.principals.delete(world.call(), name, "")
    world.principals.create(world.call(), Principal(f"{ACCOUNT}/users/more", "", {}), None)
    with transaction(world.engine) as connection:
        connection.execute(sql.delete(ended_names_table).where(ended_names_table.c.account == "acme"))
    with pytest.raises(StrongroomError) as refused:
        world.principals.create(world.call(), Principal(f"{ACCOUNT}/users/short-0", "", {}), None)
    assert refused.value.reason is Reason.ACCESS_RECORD_REFUSED


# --- what others wait for


def test_nobody_waits_for_names_that_somebody_chose_to_stand_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path / "world")
    kept = ended_names._kept

    def looking(*arguments: Any) -> Any:
        world.done.append(LOOKED)
        return kept(*arguments)

    monkeypatch.setattr(ended_names, "_kept", looking)
    world.done.clear()
    world.principals.create(world.call(), Principal(f"{ACCOUNT}/users/new", "", {}), None)
    numbered = min(at for at, what in enumerate(world.done) if what.startswith(NUMBERED))
    assert LOOKED in world.done[:numbered]
    assert LOOKED not in world.done[numbered:]


def test_a_name_is_found_where_it_stands_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    _, hashed = ended_names._place(ANN)
    other = bytes(16)
    for kept, taken in (
        (b"", False),
        (other * 1_000 + hashed, True),
        (hashed + other, True),
        (other[:8] + hashed + other[8:], False),
        (other[:8] + hashed + other[8:] + hashed, True),
    ):
        monkeypatch.setattr(ended_names, "_kept", lambda *_, kept=kept: kept)
        assert ended_names.is_taken(None, ANN) is taken  # type: ignore[arg-type]  # nothing is read


@pytest.mark.parametrize("name", sorted(EDITS))
def test_no_change_looks_through_its_account_while_everybody_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    world = World(tmp_path / "world")
    held = contents._held

    def looking(*arguments: Any) -> Any:
        world.done.append(LOOKED)
        return held(*arguments)

    monkeypatch.setattr(contents, "_held", looking)
    EDITS[name](world)
    numbered = max(at for at, what in enumerate(world.done) if what.startswith(NUMBERED))
    assert LOOKED not in world.done[numbered:]
    # And what it left is what is there.
    with reading(world.engine) as connection:
        assert contents.require_of(connection, "acme")
