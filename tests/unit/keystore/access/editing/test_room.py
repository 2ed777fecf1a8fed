"""What an account has no more room for, and what nobody can take from it by filling it up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.keystore.access.credentials.client_key_rotations import ClientKeyRotations, HeldKey, Replacement
from services.keystore.access.credentials.client_keys import ClientKeys, made
from services.keystore.access.editing import plans
from services.keystore.access.records import contents
from services.keystore.access.records.resources import Policy, Principal
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.database import reading
from services.runtime.storage.editing import Edits
from strongroom.access.v1.policy_pb2 import POLICY_KIND_IDENTITY
from tests.unit.keystore.access.editing.test_order import (
    ACCOUNT,
    ADMIN,
    ANN,
    EDITS,
    FORBID,
    KEY_EXPIRES_US,
    PERMIT,
    World,
)

ROTATING = f"{ACCOUNT}/secrets/s"


def fill_with_ended(world: World, count: int) -> None:
    """Makes principals and client keys, each of which is deleted at once."""
    for number in range(count):
        user = Principal(f"{ACCOUNT}/users/short-{number}", "", {})
        world.principals.create(world.call(), user, None)
        world.principals.delete(world.call(), user.name, "")
        key, _ = world.client_keys.create(world.call(), "acme", ANN, "", KEY_EXPIRES_US, None)
        world.client_keys.delete(world.call(), key.name, "")


def policy(name: str, cedar: str) -> Policy:
    return Policy(f"{ACCOUNT}/policies/{name}", POLICY_KIND_IDENTITY, cedar, (), "")


def test_what_was_deleted_keeps_out_new_client_keys_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "world")
    with reading(world.engine) as connection:
        monkeypatch.setattr(plans, "MAX_RECORDS", contents.count(connection, "acme") + 6)
    fill_with_ended(world, 5)
    # No room was taken from anything.
    world.policies.create(world.call(), policy("permitting", PERMIT), None)
    world.principals.create(world.call(), Principal(f"{ACCOUNT}/users/more", "", {}), None)
    monkeypatch.setattr(plans, "MAX_CLIENT_KEYS_KEPT", 5)
    with pytest.raises(StrongroomError) as refused:
        world.client_keys.create(world.call(), "acme", ANN, "", KEY_EXPIRES_US, None)
    assert refused.value.reason is Reason.LIMIT_EXCEEDED
    world.policies.create(world.call(), policy("permitting-too", PERMIT), None)
    world.policies.attach(world.call(), f"{ACCOUNT}/policies/permitting-too", ANN)


def test_an_account_that_is_full_forbids_disables_and_replaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "world")
    held, secret = world.client_keys.create(world.call(), "acme", ANN, "", KEY_EXPIRES_US, None)
    for limit in ("MAX_RECORDS", "MAX_ACCOUNT_CHARACTERS", "MAX_PRINCIPALS_KEPT", "MAX_CLIENT_KEYS_KEPT"):
        monkeypatch.setattr(plans, limit, 1)
    with pytest.raises(StrongroomError) as refused:
        world.policies.create(world.call(), policy("permitting", PERMIT), None)
    assert refused.value.reason is Reason.LIMIT_EXCEEDED
    with pytest.raises(StrongroomError) as refused:
        world.client_keys.create(world.call(), "acme", ADMIN, "", KEY_EXPIRES_US, None)
    assert refused.value.reason is Reason.LIMIT_EXCEEDED
    # But whoever filled it is forbidden what they did, disabled, and their client key replaced.
    world.policies.create(world.call(), policy("forbidding", FORBID), None)
    world.policies.attach(world.call(), f"{ACCOUNT}/policies/forbidding", ANN)
    current = HeldKey(held.name, secret.reveal().decode())
    new = replace(made(ANN, "", KEY_EXPIRES_US)[0], rotated_by=ROTATING)
    installed = ClientKeyRotations(world.editor).install(world.call(), Replacement(ANN, ROTATING, current, None), new)
    assert installed.name == new.name
    assert world.principals.disable(world.call(), ANN).disabled


def test_what_is_reserved_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "world")
    for limit in ("MAX_RECORDS", "RESERVED_RECORDS"):
        monkeypatch.setattr(plans, limit, 1)
    with pytest.raises(StrongroomError) as refused:
        world.policies.create(world.call(), policy("forbidding", FORBID), None)
    assert refused.value.reason is Reason.LIMIT_EXCEEDED


@pytest.mark.parametrize("created", ["ClientKeys.create", "OidcProviders.create", "Principals.create"])
def test_the_last_room_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, created: str) -> None:
    world, add = World(tmp_path / "world"), Edits.add
    elsewhere = ClientKeys(world.another_editor())
    with reading(world.engine) as connection:
        monkeypatch.setattr(plans, "MAX_RECORDS", contents.count(connection, "acme") + 1)

    def overtaken(edits: Edits, *arguments: Any) -> Any:
        monkeypatch.setattr(Edits, "add", add)
        elsewhere.create(world.call(), "acme", ANN, "", KEY_EXPIRES_US, None)
        return add(edits, *arguments)

    monkeypatch.setattr(Edits, "add", overtaken)
    with pytest.raises(StrongroomError) as refused:
        EDITS[created](world)
    assert refused.value.reason is Reason.LIMIT_EXCEEDED
