"""What others change between a call's permission and its change is neither done by a permission that nobody was asked
for, nor does it keep a removal from being made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Engine

from services.keystore.access.accounts.oidc_providers import OidcProviders
from services.keystore.access.accounts.principals import Principals
from services.keystore.access.editing import kinds
from services.keystore.access.editing.editing import AccessEditor, insert
from services.keystore.access.policies.policies import Policies
from services.keystore.access.records.resources import Policy, Principal
from services.keystore.keys.aliases import AliasContent, Aliases
from services.keystore.store import alias_store, store
from services.keystore.store.model import Key
from services.runtime.access.authorization import Authorizer, Resource
from services.runtime.audit_client import AuditClient
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.storage.database import reading, transaction
from services.runtime.storage.editing import Edits
from services.runtime.storage.outbox import Outbox
from strongroom.access.v1.policy_pb2 import POLICY_KIND_IDENTITY
from strongroom.audit.v1.event_pb2 import Event
from strongroom.keystore.v1 import key_pb2 as k
from tests.support.clocks import StillClock
from tests.support.everybody import Everybody
from tests.unit.keystore.access.editing.test_order import (
    ACCOUNT,
    ANN,
    FORBID,
    PERMIT,
    POLICY,
    ROLE,
    TRUST,
    World,
    provider_of,
)

ALIAS = ResourceName("acme", "aliases", "current")
KEYS = [ResourceName("acme", "keys", id_) for id_ in ("a", "b")]
PROVIDER = f"{ACCOUNT}/oidcProviders/one"
NOW = 1_800_000_000_000_000
SCRATCH = [f"{ACCOUNT}/users/scratch{number}" for number in range(3)]


class Asked(Everybody):
    """Permits everything but some actions on some resources, and remembers what it was asked."""

    def __init__(self, *denied: tuple[str, str]) -> None:
        self.denied = set(denied)
        self.asked: set[tuple[str, str]] = set()

    def authorize(self, call: Call, action: str, resource: Resource, *_more: object, **_named: object) -> Event:
        self.asked.add((action, resource.name))
        if (action, resource.name) in self.denied:
            raise StrongroomError(Reason.PERMISSION_DENIED, "not permitted")
        return super().authorize(call, action, resource)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path / "world")
    with transaction(made.engine) as connection:
        for name in SCRATCH:
            insert(connection, kinds.PRINCIPAL, Principal(name, "", {}), 1)
        for number, key_name in enumerate(KEYS):
            enabled, spec, usage = k.KEY_STATE_ENABLED, k.KEY_SPEC_AES_256, k.KEY_USAGE_ENCRYPT_DECRYPT
            level, origin = k.PROTECTION_LEVEL_SOFTWARE, k.KEY_ORIGIN_STRONGROOM
            uid = bytes([number + 1] * 16)
            key = Key(key_name, uid, spec, usage, level, origin, enabled, "", {}, False, 1, 1, NOW, NOW, NOW)
            store.insert_key(connection, key)
    return made


def editor_of(world: World, authorizer: object) -> AccessEditor:
    outbox = Outbox(world.engine, cast(AuditClient, None))
    return AccessEditor(world.engine, cast(Authorizer, authorizer), outbox, StillClock(NOW))


def aliases_of(engine: Engine, authorizer: object) -> Aliases:
    return Aliases(engine, cast(Authorizer, authorizer), Outbox(engine, cast(AuditClient, None)), StillClock(NOW))


def before_each_change(monkeypatch: pytest.MonkeyPatch, *others: Callable[[], Any]) -> list[Callable[[], Any]]:
    """Has another call come first, whenever permission was asked and a change is about to begin: one of these each
    time."""
    left = list(reversed(others))

    def overtaken(work: Any) -> Any:
        def change(edits: Edits, *arguments: Any) -> Any:
            if left:
                left.pop()()
            return work(edits, *arguments)

        return change

    originals = {name: getattr(Edits, name) for name in ("edit", "add", "remove")}

    def alone(other: Callable[[], Any]) -> Callable[[], Any]:
        def made() -> Any:
            with pytest.MonkeyPatch.context() as once:
                for name, work in originals.items():
                    once.setattr(Edits, name, work)
                return other()

        return made

    left[:] = [alone(other) for other in left]
    for name, work in originals.items():
        monkeypatch.setattr(Edits, name, overtaken(work))
    return left


def refusal(work: Callable[[], Any]) -> str:
    with pytest.raises(StrongroomError) as refused:
        work()
    return refused.value.reason


def test_an_alias_that_is_deleted_meanwhile_is_not_made_anew_for_another_key_unasked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = aliases_of(world.engine, Everybody())
    others.create(world.call(), AliasContent(ALIAS, KEYS[0], ""))
    asked = Asked(("keystore:UpdateAlias", str(ALIAS)))
    before_each_change(monkeypatch, lambda: others.delete(world.call(), ALIAS, ""))
    mine = aliases_of(world.engine, asked)
    assert refusal(lambda: mine.create(world.call(), AliasContent(ALIAS, KEYS[1], ""))) == Reason.PERMISSION_DENIED
    with reading(world.engine) as connection:
        assert alias_store.alias(connection, ALIAS) is None


def test_an_alias_that_stands_for_another_key_meanwhile_is_deleted_with_permission_on_that(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = aliases_of(world.engine, Everybody())
    others.create(world.call(), AliasContent(ALIAS, KEYS[0], ""))
    moved = AliasContent(ALIAS, KEYS[1], "")
    before_each_change(monkeypatch, lambda: others.update(world.call(), moved, ("key",), ""))
    denied = aliases_of(world.engine, Asked(("keystore:DeleteAlias", str(KEYS[1]))))
    assert refusal(lambda: denied.delete(world.call(), ALIAS, "")) == Reason.PERMISSION_DENIED
    back = AliasContent(ALIAS, KEYS[0], "")
    before_each_change(monkeypatch, lambda: others.update(world.call(), back, ("key",), ""))
    aliases_of(world.engine, Asked()).delete(world.call(), ALIAS, "")


def test_an_update_enables_no_provider_that_was_disabled_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    disabled = replace(provider_of("one"), disabled=True)
    before_each_change(monkeypatch, lambda: world.providers.update(world.call(), disabled, ["disabled"], ""))
    asked = Asked(("access:SetIssuerKeys", PROVIDER))
    mine = OidcProviders(editor_of(world, asked))
    wanted = provider_of("one")
    assert refusal(lambda: mine.update(world.call(), wanted, ["disabled"], "")) == Reason.PERMISSION_DENIED
    assert world.providers.get(world.call(), PROVIDER).disabled
    asked.denied.clear()
    assert not mine.update(world.call(), wanted, ["disabled"], "").disabled


def toggled(world: World, name: str, *, holds: bool) -> Callable[[], Any]:
    return lambda: world.principals.set_roles(world.call(), name, (ROLE,) if holds else (), "")


def test_a_role_that_is_given_to_others_meanwhile_ends_with_permission_on_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [toggled(world, name, holds=True) for name in SCRATCH]
    taken = toggled(world, SCRATCH[0], holds=False)
    before_each_change(monkeypatch, *given, taken)
    asked = Asked()
    Principals(editor_of(world, asked)).delete(world.call(), ROLE, "")
    assert asked.asked >= {("access:SetPrincipalRoles", name) for name in (ANN, *SCRATCH[1:])}
    assert all(not world.principals.get(world.call(), name).roles for name in (ANN, *SCRATCH))


def test_a_role_does_not_end_where_who_holds_it_meanwhile_is_not_for_the_caller(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_each_change(monkeypatch, toggled(world, SCRATCH[0], holds=True))
    asked = Asked(("access:SetPrincipalRoles", SCRATCH[0]))
    mine = Principals(editor_of(world, asked))
    assert refusal(lambda: mine.delete(world.call(), ROLE, "")) == Reason.PERMISSION_DENIED
    assert world.principals.get(world.call(), SCRATCH[0]).roles == (ROLE,)


def test_a_policy_that_is_attached_to_others_meanwhile_is_deleted_with_permission_on_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    attached = [lambda name=name: world.policies.attach(world.call(), POLICY, name) for name in SCRATCH]
    detached = lambda: world.policies.detach(world.call(), POLICY, SCRATCH[0])  # noqa: E731
    before_each_change(monkeypatch, *attached, detached)
    asked = Asked()
    Policies(editor_of(world, asked), "mesh").delete(world.call(), POLICY, "")
    assert asked.asked >= {("access:DetachPolicy", name) for name in (ANN, *SCRATCH[1:])}
    assert refusal(lambda: world.policies.get(world.call(), POLICY)) == Reason.POLICY_NOT_FOUND


def test_a_policy_is_narrowed_whatever_else_is_written_of_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # In another process: those of this one wait for their turn.
    elsewhere = Policies(world.another_editor(), "mesh")
    others = [
        lambda number=number: elsewhere.update(world.call(), POLICY, None, f"{number}", "") for number in range(6)
    ]
    before_each_change(monkeypatch, *others)
    world.policies.update(world.call(), POLICY, FORBID, None, "")
    assert world.policies.get(world.call(), POLICY).cedar == FORBID


def test_a_text_that_forbids_by_now_is_not_taken_off_unasked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    permitting = f"{ACCOUNT}/policies/permitting"
    new = Policy(permitting, POLICY_KIND_IDENTITY, PERMIT, (ANN,), "")
    world.policies.create(world.call(), new, None)
    before_each_change(monkeypatch, lambda: world.policies.update(world.call(), permitting, PERMIT + FORBID, None, ""))
    asked = Asked(("access:DetachPolicy", ANN))
    mine = Policies(editor_of(world, asked), "mesh")
    wanted = PERMIT + PERMIT
    assert refusal(lambda: mine.update(world.call(), permitting, wanted, None, "")) == Reason.PERMISSION_DENIED
    assert world.policies.get(world.call(), permitting).cedar == PERMIT + FORBID


def test_roles_are_given_only_with_permission_though_they_were_taken_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = f"{ACCOUNT}/roles/other"
    world.principals.create(world.call(), Principal(other, "", {}, role_settings=TRUST), None)
    before_each_change(monkeypatch, toggled(world, ANN, holds=False))
    asked = Asked(("access:SetPrincipalRoles", ROLE))
    mine = Principals(editor_of(world, asked))
    # Ann holds it, when permission is asked.
    assert refusal(lambda: mine.set_roles(world.call(), ANN, (ROLE, other), "")) == Reason.PERMISSION_DENIED
    assert world.principals.get(world.call(), ANN).roles == ()
