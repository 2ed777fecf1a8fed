"""What the mesh is told of changes in access, and what a refused change leaves behind, on a real database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Engine, func, select

from services.keystore.access.accounts import new_accounts
from services.keystore.access.accounts.principals import Principals
from services.keystore.access.editing import kinds
from services.keystore.access.editing.editing import AccessEditor, insert
from services.keystore.access.editing.plans import MAX_ON_RESOURCE
from services.keystore.access.policies.policies import MAX_TARGETS, Policies
from services.keystore.access.records import policy_store, quota_store
from services.keystore.access.records.resources import Account, Policy, Principal, Quota
from services.keystore.store import changes, store
from services.keystore.store.model import Key
from services.keystore.store.tables import outbox
from services.runtime.access.authorization import Authorizer
from services.runtime.audit_client import AuditClient
from services.runtime.call import Call
from services.runtime.call import Principal as Caller
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.storage.database import open_database, reading, transaction
from services.runtime.storage.outbox import Outbox
from strongroom.access.v1.policy_pb2 import POLICY_KIND_IDENTITY, POLICY_KIND_RESOURCE
from strongroom.keystore.v1 import key_pb2 as k
from strongroom.keystore.v1.key_record_service_pb2 import ChangeKind
from tests.support import databases
from tests.support.clocks import StillClock
from tests.support.everybody import Everybody
from tests.support.sealing import sealed

ADMIN, KEY, SECRET = "accounts/acme/users/admin", "accounts/acme/keys/payments", "accounts/acme/secrets/password"
ROLE, POLICY = "accounts/acme/roles/administrator", "accounts/acme/policies/p"
UID = bytes(range(16))
PERMIT = "permit (principal, action, resource);"
NO_ACCESS = 'forbid (principal, action in Strongroom::Action::"access", resource);'


@dataclass
class World:
    """An account with an administrator and a key, and what was noted since it was made."""

    engine: Engine
    policies: Policies
    principals: Principals
    made: int = 0

    def call(self) -> Call:
        return Call("test", "Test", "access:Test", principal=Caller(ADMIN, "acme"))

    def noted(self) -> list[tuple[str, str, bytes]]:
        found = changes.since(self.engine, self.made, 100).changes
        return [
            (ChangeKind.Name(ChangeKind.ValueType(one.kind)).removeprefix("CHANGE_KIND_"), one.resource, one.key_uid)
            for one in found
        ]

    def key_revision(self) -> int:
        with reading(self.engine) as connection:
            key = store.key_by_uid(connection, UID)
        assert key is not None
        return key.revision

    def refused(self, work: Any) -> Reason:
        """Why `work` fails; it leaves no change and no event."""
        with pytest.raises(StrongroomError) as caught:
            work()
        assert self.noted() == []
        with reading(self.engine) as connection:
            assert connection.execute(select(func.count()).select_from(outbox)).scalar_one() == 0
        return caught.value.reason


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    engine = sealed(open_database(Database(url=f"sqlite:///{tmp_path / 'keystore.db'}")))
    databases.migrate(engine, "keystore")
    editor = AccessEditor(
        engine,
        cast(Authorizer, Everybody()),
        Outbox(engine, cast(AuditClient, None)),
        StillClock(1_800_000_000_000_000),
    )
    with transaction(engine) as connection:
        new_accounts.add(connection, Account("accounts/acme", "", {}), "admin", [], 1)
        store.insert_key(connection, _key())
        made = changes.current(connection)
    yield World(engine, Policies(editor, "mesh"), Principals(editor), made)
    engine.dispose()


def _key() -> Key:
    return Key(
        ResourceName("acme", "keys", "payments"),
        UID,
        k.KEY_SPEC_AES_256,
        k.KEY_USAGE_ENCRYPT_DECRYPT,
        k.PROTECTION_LEVEL_SOFTWARE,
        k.KEY_ORIGIN_STRONGROOM,
        k.KEY_STATE_ENABLED,
        "",
        {},
        deletion_protection=False,
        primary_version=1,
        revision=1,
        created_us=1,
        updated_us=1,
        rotated_us=1,
    )


def test_a_resource_policy_is_a_change_of_the_key_and_of_the_secret(world: World) -> None:
    made = world.policies.create(world.call(), Policy(POLICY, POLICY_KIND_RESOURCE, PERMIT, (KEY, SECRET), ""), None)
    told = [("POLICY", POLICY, b""), ("KEY", KEY, UID), ("POLICY", SECRET, b"")]
    assert world.noted() == told
    # What is remembered of the key under its revision is remembered no more.
    assert world.key_revision() == made.revision + 1
    world.policies.update(world.call(), POLICY, None, "Another description", "")
    assert world.noted() == [*told, ("POLICY", POLICY, b"")]
    world.policies.update(world.call(), POLICY, NO_ACCESS, None, "")
    assert world.noted()[4:] == told
    world.policies.detach(world.call(), POLICY, KEY)
    assert world.noted()[7:] == [("POLICY", POLICY, b""), ("KEY", KEY, UID)]
    world.policies.attach(world.call(), POLICY, KEY)
    assert world.noted()[9:] == [("POLICY", POLICY, b""), ("KEY", KEY, UID)]
    world.policies.delete(world.call(), POLICY, "")
    assert set(world.noted()[11:]) == set(told)


def test_an_identity_policy_is_a_change_of_itself(world: World) -> None:
    world.policies.create(world.call(), Policy(POLICY, POLICY_KIND_IDENTITY, PERMIT, (ADMIN,), ""), None)
    world.policies.attach(world.call(), POLICY, ADMIN)
    assert world.noted() == [("POLICY", POLICY, b"")]


def test_a_change_that_locks_out_leaves_nothing_behind(world: World) -> None:
    call = world.call
    locking = Policy(POLICY, POLICY_KIND_IDENTITY, NO_ACCESS, ("accounts/acme",), "")
    for work in (
        lambda: world.policies.create(call(), locking, None),
        lambda: world.policies.delete(call(), "accounts/acme/policies/administrator", ""),
        lambda: world.principals.set_roles(call(), ADMIN, (), ""),
        lambda: world.principals.disable(call(), ADMIN),
        lambda: world.principals.delete(call(), ADMIN, ""),
        lambda: world.principals.delete(call(), ROLE, ""),
    ):
        assert world.refused(work) is Reason.POLICY_LOCKOUT


def test_a_policy_has_at_most_a_thousand_targets(world: World) -> None:
    targets = tuple(sorted(f"accounts/acme/users/u{number}" for number in range(MAX_TARGETS)))
    full = Policy(POLICY, POLICY_KIND_IDENTITY, PERMIT, targets, "")
    with transaction(world.engine) as connection:
        policy_store.insert_policy(connection, full)
    assert world.refused(lambda: world.policies.attach(world.call(), POLICY, ADMIN)) is Reason.LIMIT_EXCEEDED
    with transaction(world.engine) as connection:
        policy_store.update_policy(connection, replace(full, attached_to=targets[1:]))
    assert len(world.policies.attach(world.call(), POLICY, ADMIN).attached_to) == MAX_TARGETS


def test_a_principal_takes_what_hangs_on_it_along(world: World) -> None:
    ann, helper = "accounts/acme/users/ann", "accounts/acme/roles/helper"
    with transaction(world.engine) as connection:
        insert(connection, kinds.PRINCIPAL, Principal(helper, "", {}), 1)
        insert(connection, kinds.PRINCIPAL, Principal(ann, "", {}, (helper,)), 1)
        insert(connection, kinds.POLICY, Policy(POLICY, POLICY_KIND_IDENTITY, PERMIT, (ann, helper), ""), 1)
        quota_store.put_quota(connection, Quota(ann, 5.0))
        world.made = changes.current(connection)
    world.principals.delete(world.call(), helper, "")
    assert set(world.noted()) == {("PRINCIPAL", helper, b""), ("PRINCIPAL", ann, b""), ("POLICY", POLICY, b"")}
    world.principals.delete(world.call(), ann, "")
    assert ("QUOTA", f"{ann}/quota", b"") in world.noted()
    assert world.policies.get(world.call(), POLICY).attached_to == ()


def test_an_account_is_no_more_than_every_worker_can_keep(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.keystore.access.editing.plans.MAX_ACCOUNT_CHARACTERS", 3_000)
    long = f"{PERMIT}// {'ä' * 1_500}"
    world.policies.create(world.call(), Policy(POLICY, POLICY_KIND_IDENTITY, PERMIT, (ADMIN,), ""), None)
    for number, kind in enumerate((POLICY_KIND_RESOURCE, POLICY_KIND_RESOURCE, POLICY_KIND_RESOURCE)):
        # What is on keys and secrets is read with them.
        world.policies.create(world.call(), Policy(f"{POLICY}{number}", kind, long, (), ""), None)
    with reading(world.engine) as connection:
        world.made = changes.current(connection)
    tags = {str(number): "x" * 250 for number in range(9)}
    for work in (
        lambda: world.policies.update(world.call(), POLICY, long + long, None, ""),
        lambda: world.policies.create(
            world.call(), Policy(f"{POLICY}-x", POLICY_KIND_IDENTITY, long + long, (), ""), None
        ),
        lambda: world.principals.set_tags(world.call(), ADMIN, tags, ""),
        lambda: world.principals.create(world.call(), Principal("accounts/acme/users/ann", "", tags), None),
    ):
        with pytest.raises(StrongroomError) as refused:
            work()
        assert refused.value.reason is Reason.LIMIT_EXCEEDED
    assert world.noted() == []


def test_a_key_has_at_most_a_hundred_policies(world: World) -> None:
    with transaction(world.engine) as connection:
        for number in range(MAX_ON_RESOURCE):
            of_key = Policy(f"{POLICY}-{number}", POLICY_KIND_RESOURCE, PERMIT, (KEY,), "")
            policy_store.insert_policy(connection, of_key)
    one_more = Policy(POLICY, POLICY_KIND_RESOURCE, PERMIT, (KEY,), "")
    assert world.refused(lambda: world.policies.create(world.call(), one_more, None)) is Reason.LIMIT_EXCEEDED
    world.policies.detach(world.call(), f"{POLICY}-0", KEY)
    assert world.policies.create(world.call(), one_more, None).attached_to == (KEY,)


def test_the_last_administrator_can_be_enabled_again_by_whoever_may(world: World) -> None:
    with transaction(world.engine) as connection:
        admin = kinds.PRINCIPAL.require(connection, ADMIN)
        kinds.PRINCIPAL.update(connection, replace(admin, disabled=True))
    assert world.refused(lambda: world.principals.set_tags(world.call(), ADMIN, {}, "")) is Reason.POLICY_LOCKOUT
    assert not world.principals.enable(world.call(), ADMIN).disabled
    assert world.principals.set_tags(world.call(), ADMIN, {"a": "b"}, "").tags == {"a": "b"}
