"""A principal that was deleted is deleted, whatever becomes of the grants to it, and they all end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Connection, Engine, func, select

from services.keystore.access.accounts import ended_grants, new_accounts
from services.keystore.access.accounts.ended_grants import EndedGrants
from services.keystore.access.accounts.principals import Principals
from services.keystore.access.editing.editing import AccessEditor
from services.keystore.access.policies import grants
from services.keystore.access.records import grant_store, principal_store
from services.keystore.access.records.grant_store import Grant
from services.keystore.access.records.resources import Account, Principal
from services.keystore.access.records.tables import grants as table
from services.keystore.store import store as keys
from services.keystore.store.model import Key
from services.runtime.access.authorization import Authorizer
from services.runtime.audit_client import AuditClient
from services.runtime.call import Call
from services.runtime.call import Principal as Caller
from services.runtime.config import Database
from services.runtime.encryption_context import NONE
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.storage.database import open_database, reading, transaction
from services.runtime.storage.outbox import Outbox
from strongroom.access.v1.grant_pb2 import GrantConstraint
from strongroom.audit.v1.event_pb2 import OUTCOME_ALLOWED
from strongroom.keystore.v1 import key_pb2 as k
from tests.support import databases
from tests.support.clocks import StillClock
from tests.support.everybody import Everybody
from tests.support.sealing import sealed

BOB, ANN = "accounts/shop/users/bob", "accounts/shop/users/ann"
UID, NOW = bytes(16), 1_800_000_000_000_000
SPIFFE_ID = "spiffe://strongroom.local/user/admin"


@dataclass
class World:
    """A shop with a user to whom keys were granted, those of another account among them."""

    engine: Engine
    editor: AccessEditor
    principals: Principals

    def call(self) -> Call:
        return Call("test", "Test", "access:Test", principal=Caller("accounts/shop/users/admin", "shop"))

    def grant(self, grantee: str, count: int, account: str = "shop") -> None:
        key = ResourceName(account, "keys", "k")
        with transaction(self.engine) as connection:
            for number in range(count):
                name = ResourceName(account, "grants", f"{account}-{grantee[-3:]}-{number}")
                grant_store.insert_grant(
                    connection,
                    Grant(name, key, UID, grantee, ("crypto:Encrypt",), GrantConstraint(), "", "", "", None, 0),
                )

    def left(self, grantee: str) -> int:
        with reading(self.engine) as connection:
            counted = select(func.count()).select_from(table).where(table.c.grantee == grantee)
            return int(connection.execute(counted).scalar_one())


def test_nobody_is_granted_anything_beside_its_deletion(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is granted is there when the deletion looks for it, or the deletion is there when it is granted."""
    key = ResourceName("shop", "keys", "made")
    enabled, level, origin = k.KEY_STATE_ENABLED, k.PROTECTION_LEVEL_SOFTWARE, k.KEY_ORIGIN_STRONGROOM
    spec, usage = k.KEY_SPEC_AES_256, k.KEY_USAGE_ENCRYPT_DECRYPT
    with transaction(world.engine) as connection:
        made = Key(key, bytes([1] * 16), spec, usage, level, origin, enabled, "", {}, False, 1, 1, NOW, NOW, NOW)
        keys.insert_key(connection, made)
    note = grants._note

    def deleted_before(connection: Connection, grant: Grant) -> None:
        principal_store.delete_principal(connection, BOB, NOW)
        note(connection, grant)

    outbox = Outbox(world.engine, cast(AuditClient, None))
    granting = grants.Grants(world.engine, cast(Authorizer, Everybody()), outbox, StillClock(NOW))
    nothing = NONE
    new = grants.NewGrant("shop", key, BOB, ("crypto:Encrypt",), GrantConstraint(), nothing, ANN, "", None)
    monkeypatch.setattr(granting, "_permitted_key", lambda *_: made)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(grants, "_note", deleted_before)
        with pytest.raises(StrongroomError) as refused:
            granting.create(world.call(), new)
    assert (refused.value.reason, refused.value.metadata["field"]) == (Reason.PRINCIPAL_NOT_FOUND, "grant.grantee")
    assert granting.create(world.call(), new).grantee == BOB


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    engine = sealed(open_database(Database(url=f"sqlite:///{tmp_path / 'keystore.db'}")))
    databases.migrate(engine, "keystore")
    outbox = Outbox(engine, cast(AuditClient, None))
    editor = AccessEditor(engine, cast(Authorizer, Everybody()), outbox, StillClock(NOW))
    made = World(engine, editor, Principals(editor, "main", bind_any=True))
    with transaction(engine) as connection:
        shop = Account("accounts/shop", "", {}, spiffe_id_prefixes=(SPIFFE_ID,))
        new_accounts.add(connection, shop, "admin", [SPIFFE_ID], NOW)
    for name in (BOB, ANN):
        made.principals.create(made.call(), Principal(name, "", {}), None)
    made.grant(BOB, 250)
    made.grant(BOB, 3, "other")
    made.grant(ANN, 2)
    # How long it may take is one test's matter, not that of a machine that is busy.
    with pytest.MonkeyPatch.context() as patient:
        patient.setattr(ended_grants, "_MOST_SECONDS", 60.0)
        yield made
    engine.dispose()


def failing_from(call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    revoke_of = grants.revoke_of

    def revoke(connection: Connection, principal: str) -> bool:
        calls.append(principal)
        if len(calls) >= call:
            raise StrongroomError(Reason.DATABASE_UNAVAILABLE, "away")
        return revoke_of(connection, principal)

    monkeypatch.setattr(grants, "revoke_of", revoke)


@pytest.mark.parametrize("call", [1, 2])
def test_what_ends_with_a_principal_and_cannot_at_once_ends_later(
    world: World, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    with monkeypatch.context() as broken:
        failing_from(call, broken)
        deletion = world.call()
        world.principals.delete(deletion, BOB, "")
        assert world.left(BOB) > 0
        with pytest.raises(StrongroomError):
            EndedGrants(world.editor).end_left()
    assert deletion.events[-1].outcome == OUTCOME_ALLOWED
    with reading(world.engine) as connection:
        assert principal_store.principal(connection, BOB) is None
    EndedGrants(world.editor).end_left()
    assert (world.left(BOB), world.left(ANN)) == (0, 2)


def test_a_deletion_takes_no_longer_however_many_grants_there_are(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_grants, "_MOST_SECONDS", 0.0)
    world.principals.delete(world.call(), BOB, "")
    assert world.left(BOB) == 253
    monkeypatch.undo()
    EndedGrants(world.editor).end_left()
    assert world.left(BOB) == 0


def test_grants_that_cannot_be_ended_keep_no_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended_grants, "_MOST_SECONDS", 0.0)
    for name in (ANN, BOB):
        world.principals.delete(world.call(), name, "")
    monkeypatch.undo()
    end_of: Any = ended_grants.end_of

    def refuse(editor: AccessEditor, principal: str) -> None:
        if principal == ANN:
            raise StrongroomError(Reason.ACCESS_RECORD_REFUSED, "not ours")
        end_of(editor, principal)

    monkeypatch.setattr(ended_grants, "end_of", refuse)
    with pytest.raises(StrongroomError):
        EndedGrants(world.editor).end_left()
    assert (world.left(BOB), world.left(ANN)) == (0, 2)


@pytest.mark.parametrize("refused", [ANN, BOB])
def test_principals_whose_grants_cannot_be_ended_keep_no_others_however_many_they_are(
    world: World, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    monkeypatch.setattr(ended_grants, "_MOST_SECONDS", 0.0)
    for name in (ANN, BOB):
        world.principals.delete(world.call(), name, "")
    monkeypatch.undo()
    # As many as are looked at at a time.
    monkeypatch.setattr(principal_store, "_SOME", 1)
    end_of: Any = ended_grants.end_of

    def refuse(editor: AccessEditor, principal: str) -> None:
        if principal == refused:
            raise StrongroomError(Reason.ACCESS_RECORD_REFUSED, "not ours")
        end_of(editor, principal)

    monkeypatch.setattr(ended_grants, "end_of", refuse)
    ending = EndedGrants(world.editor)
    for _ in range(2):
        with pytest.raises(StrongroomError):
            ending.end_left()
    assert sorted((world.left(ANN) > 0, world.left(BOB) > 0)) == [False, True]


def test_grants_that_have_expired_are_forgotten_an_hour_later_and_leave_room_for_others(world: World) -> None:
    hour_us = 3_600_000_000
    moments = {NOW - hour_us - 1: 250, NOW - hour_us + 1: 2, NOW + 1: 3}
    with transaction(world.engine) as connection:
        for number, expires_us in enumerate(moment for moment, count in moments.items() for _ in range(count)):
            name, key = ResourceName("shop", "grants", f"expiring-{number}"), ResourceName("shop", "keys", "k")
            grant_store.insert_grant(
                connection,
                Grant(name, key, UID, ANN, ("crypto:Encrypt",), GrantConstraint(), "", "", "", expires_us, 0),
            )
        before = grant_store.count(connection, UID)
    assert world.left(ANN) == 2 + 255
    EndedGrants(world.editor).end_left()
    assert world.left(ANN) == 2 + 5
    with reading(world.engine) as connection:
        assert grant_store.count(connection, UID) == before - 250
