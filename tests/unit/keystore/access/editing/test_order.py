"""What takes as long as an account is large comes before a change has its number, from which on everybody waits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Engine, event

from services.keystore.access.accounts import new_accounts
from services.keystore.access.accounts.accounts import Accounts
from services.keystore.access.accounts.oidc_providers import OidcProviders
from services.keystore.access.accounts.principals import Principals
from services.keystore.access.accounts.quotas import Quotas
from services.keystore.access.credentials.client_keys import ClientKeys, made
from services.keystore.access.credentials.revocations import Revocations
from services.keystore.access.editing import kinds, lockout, plans
from services.keystore.access.editing.editing import AccessEditor, insert
from services.keystore.access.policies.policies import Policies
from services.keystore.access.records import store
from services.keystore.access.records.resources import Account, OidcProvider, Policy, Principal, Quota, RoleSettings
from services.keystore.mesh import mesh_resource
from services.runtime.access import decisions
from services.runtime.access.authorization import Authorizer
from services.runtime.audit_client import AuditClient
from services.runtime.call import Call
from services.runtime.call import Principal as Caller
from services.runtime.config import Database, DefaultQuotas
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.database import open_database, reading, transaction
from services.runtime.storage.outbox import Outbox
from strongroom.access.v1.policy_pb2 import POLICY_KIND_IDENTITY, POLICY_KIND_RESOURCE
from tests.support import databases
from tests.support.clocks import StillClock
from tests.support.everybody import Everybody
from tests.support.sealing import sealed

ACCOUNT = "accounts/acme"
ADMIN, ANN, ROLE = f"{ACCOUNT}/users/admin", f"{ACCOUNT}/users/ann", f"{ACCOUNT}/roles/helper"
POLICY, OTHER, KEY_EXPIRES_US = f"{ACCOUNT}/policies/p", f"{ACCOUNT}/policies/other", 2_000_000_000_000_000
PERMIT = "permit (principal, action, resource);"
FORBID = 'forbid (principal, action == Strongroom::Action::"crypto:Sign", resource);'
TRUST = RoleSettings('forbid (principal, action == Strongroom::Action::"access:AssumeRole", resource);', 3600)
READ, DECIDED, NUMBERED, BEGUN, COMMITTED = "account read", "decided", "UPDATE revision", "BEGIN IMMEDIATE", "committed"


PERMITTING = Policy(f"{ACCOUNT}/policies/new", POLICY_KIND_IDENTITY, PERMIT, (ACCOUNT,), "")


def provider_of(name: str) -> OidcProvider:
    """A provider of the account."""
    return OidcProvider(f"{ACCOUNT}/oidcProviders/{name}", f"https://{name}.example", ("a",), "", "", "", "")


class World:
    """An account with an administrator, Ann, a role and policies, and all that is done to its database."""

    def __init__(self, directory: Path, *, larger: int = 0) -> None:
        directory.mkdir()
        self.engine: Engine = sealed(open_database(Database(url=f"sqlite:///{directory / 'keystore.db'}")))
        databases.migrate(self.engine, "keystore")
        self.done: list[str] = []
        event.listen(self.engine, "before_cursor_execute", lambda _a, _b, statement, *_: self.done.append(statement))
        event.listen(self.engine, "commit", lambda _: self.done.append(COMMITTED))
        self.editor = self.another_editor()
        self.policies, self.principals = Policies(self.editor, "mesh"), Principals(self.editor)
        self.providers, self.client_keys = OidcProviders(self.editor), ClientKeys(self.editor)
        self.accounts, self.revocations = Accounts(self.editor, "mesh"), Revocations(self.editor)
        self.quotas = Quotas(self.editor, mesh_resource("mesh"), DefaultQuotas())
        with transaction(self.engine) as connection:
            for account in ("acme", "mesh"):
                new_accounts.add(connection, Account(f"accounts/{account}", "", {}), "admin", [], 1)
            insert(connection, kinds.PRINCIPAL, Principal(ROLE, "", {}, role_settings=TRUST), 1)
            for number in range(larger):
                user = Principal(f"{ACCOUNT}/users/u{number}", "", {"number": str(number)})
                insert(connection, kinds.PRINCIPAL, user, 1)
                named = f"{ACCOUNT}/policies/p{number}"
                insert(connection, kinds.POLICY, Policy(named, POLICY_KIND_IDENTITY, FORBID, (user.name,), ""), 1)
            insert(connection, kinds.PRINCIPAL, Principal(ANN, "", {}, (ROLE,)), 1)
            for name in (POLICY, OTHER):
                insert(connection, kinds.POLICY, Policy(name, POLICY_KIND_IDENTITY, PERMIT + FORBID, (ANN,), ""), 1)
            provider = provider_of("one")
            insert(connection, kinds.OIDC_PROVIDER, provider, 1)
            self.key, self.another_key = (made(ADMIN, "", KEY_EXPIRES_US)[0] for _ in range(2))
            insert(connection, kinds.CLIENT_KEY, self.key, 1)
            insert(connection, kinds.CLIENT_KEY, replace(self.another_key, expires_us=1), 1)

    def another_editor(self) -> AccessEditor:
        """One of another process."""
        outbox = Outbox(self.engine, cast(AuditClient, None))
        return AccessEditor(self.engine, cast(Authorizer, Everybody()), outbox, StillClock(1_800_000_000_000_000))

    def call(self, *session: str) -> Call:
        caller = Caller(ADMIN, "acme", session_ids=session, expires=1_900_000_000.0 if session else 0.0)
        return Call("test", "Test", "access:Test", principal=caller)


EDITS: dict[str, Callable[[World], Any]] = {
    "Policies.create": lambda w: w.policies.create(
        w.call(), Policy(f"{ACCOUNT}/policies/new", POLICY_KIND_IDENTITY, FORBID, (ACCOUNT,), ""), None
    ),
    "Policies.update": lambda w: w.policies.update(w.call(), POLICY, FORBID, None, ""),
    "Policies.attach": lambda w: w.policies.attach(w.call(), POLICY, ADMIN),
    "Policies.detach": lambda w: w.policies.detach(w.call(), POLICY, ANN),
    "Policies.delete": lambda w: w.policies.delete(w.call(), OTHER, ""),
    "Principals.create": lambda w: w.principals.create(
        w.call(), Principal(f"{ACCOUNT}/users/new", "", {"a": "b"}, (ROLE,)), None
    ),
    "Principals.update": lambda w: w.principals.update(
        w.call(), Principal(ROLE, "", {}, role_settings=TRUST), ["role_settings"], ""
    ),
    "Principals.set_tags": lambda w: w.principals.set_tags(w.call(), ANN, {"a": "b"}, ""),
    "Principals.set_roles": lambda w: w.principals.set_roles(w.call(), ANN, (), ""),
    "Principals.disable": lambda w: w.principals.disable(w.call(), ANN),
    "Principals.enable": lambda w: w.principals.enable(w.call(), ANN),
    "Principals.revoke_sessions": lambda w: w.principals.revoke_sessions(w.call(), ANN),
    "Principals.delete": lambda w: w.principals.delete(w.call(), ANN, ""),
    "ClientKeys.create": lambda w: w.client_keys.create(w.call(), "acme", ADMIN, "", KEY_EXPIRES_US, None),
    "ClientKeys.update": lambda w: w.client_keys.update(w.call(), w.key.name, "", True, ""),
    "ClientKeys.delete": lambda w: w.client_keys.delete(
        w.call(), w.client_keys.page(w.call(), "acme", "", 1, [])[0].name, ""
    ),
    "OidcProviders.create": lambda w: w.providers.create(w.call(), provider_of("two"), None),
    "OidcProviders.update": lambda w: w.providers.update(
        w.call(), replace(provider_of("one"), audiences=("b",)), ["audiences"], ""
    ),
    "OidcProviders.delete": lambda w: w.providers.delete(w.call(), f"{ACCOUNT}/oidcProviders/one", ""),
    "Quotas.update": lambda w: w.quotas.update(w.call(), Quota(ADMIN, 5.0), ["requests_per_second"], ""),
    "Quotas.reset": lambda w: w.quotas.reset(w.call(), ADMIN),
    "Accounts.update": lambda w: w.accounts.update(w.call(), ACCOUNT, "Acme", None, None, ""),
    "Accounts.disable": lambda w: w.accounts.disable(w.call(), ACCOUNT),
    "Accounts.enable": lambda w: w.accounts.enable(w.call(), ACCOUNT),
    "Revocations.revoke_own": lambda w: w.revocations.revoke_own(w.call("mine")),
}
"""One after the other; an account is made by the mesh's administrators."""
READERS = {"get", "page", "problems"}


def test_every_change_of_access_is_among_them() -> None:
    classes: list[type] = [Policies, Principals, ClientKeys, OidcProviders, Quotas, Accounts, Revocations]
    changing = {
        f"{one.__name__}.{name}"
        for one in classes
        for name in vars(one)
        if not name.startswith("_") and name not in READERS
    }
    assert changing == {*EDITS, "Accounts.create"}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[World]:
    """Worlds that are told when the whole account is read, and when anything is decided."""
    worlds: list[World] = []

    def telling(what: str, work: Any) -> Any:
        def told(*arguments: Any, **named: Any) -> Any:
            for world in worlds:
                world.done.append(what)
            return work(*arguments, **named)

        return told

    monkeypatch.setattr(store, "account_access", telling(READ, store.account_access))
    monkeypatch.setattr(store, "account_characters", telling(READ, store.account_characters))
    monkeypatch.setattr(decisions.Decider, "decide", telling(DECIDED, decisions.Decider.decide))
    return worlds


def test_no_change_takes_longer_from_its_number_on_because_its_account_is_large(
    tmp_path: Path, told: list[World]
) -> None:
    small, large = World(tmp_path / "small"), World(tmp_path / "large", larger=60)
    looked: set[str] = set()
    for name, edit in EDITS.items():
        counts = []
        for world in (small, large):
            told[:] = [world]
            world.done.clear()
            edit(world)
            whole = world.done
            begun = max(at for at, what in enumerate(whole) if what.startswith(BEGUN) and NUMBERED in _after(whole, at))
            looked |= set(whole[:begun]) & {READ, DECIDED}
            # SQLite has one lock for all that write, from the beginning of a transaction.
            assert not {READ, DECIDED} & set(whole[begun:]), name
            counts.append(len(_after(whole, begun, NUMBERED)))
        assert counts[0] == counts[1], name
    assert looked == {READ, DECIDED}


@pytest.mark.parametrize("kind", ["create", "delete", "update"])
def test_no_policy_takes_longer_because_it_is_on_many_secrets(tmp_path: Path, kind: str) -> None:
    world, counts = World(tmp_path / "world"), []
    for number in (2, 200):
        name, secrets = f"{POLICY}-{number}", tuple(f"{ACCOUNT}/secrets/s{one:03}" for one in range(number))
        policy = Policy(name, POLICY_KIND_RESOURCE, PERMIT, secrets, "")
        if kind != "create":
            world.policies.create(world.call(), policy, None)
        world.done.clear()
        if kind == "create":
            world.policies.create(world.call(), policy, None)
        elif kind == "update":
            world.policies.update(world.call(), name, FORBID, None, "")
        else:
            world.policies.delete(world.call(), name, "")
        begun = max(at for at, what in enumerate(world.done) if what.startswith(BEGUN))
        counts.append(len(_after(world.done, begun, NUMBERED)))
    assert counts[0] == counts[1]


def _after(done: list[str], at: int, what: str = "") -> list[str]:
    """What is done in the transaction that begins at `at`, or of that what follows `what`."""
    of_it = done[at : done.index(COMMITTED, at)] if COMMITTED in done[at:] else done[at:]
    named = [NUMBERED if statement.startswith(NUMBERED) else statement for statement in of_it]
    return named[named.index(what) :] if what else named


def test_what_was_looked_at_still_holds_when_it_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "world")
    elsewhere = Principals(world.another_editor())
    checked = plans.Plan.require
    between = [lambda: elsewhere.disable(world.call(), ANN)]

    def require(plan: plans.Plan, *arguments: Any) -> None:
        checked(plan, *arguments)
        while between:
            between.pop()()

    monkeypatch.setattr(plans.Plan, "require", require)
    # Ann could go on, when it was looked at.
    with pytest.raises(StrongroomError) as refused:
        world.principals.disable(world.call(), ADMIN)
    assert refused.value.reason is Reason.POLICY_LOCKOUT
    assert not world.principals.get(world.call(), ADMIN).disabled


def test_changes_of_many_processes_at_once_are_all_made(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    processes = [Principals(world.another_editor()) for _ in range(3)]

    def make(number: int) -> None:
        for one in range(4):
            new = Principal(f"{ACCOUNT}/users/new-{number}-{one}", "", {})
            processes[number % 3].create(world.call(), new, None)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(make, range(6)))
    assert len(world.principals.page(world.call(), "acme", f"{ACCOUNT}/users/new", 50, [])) == 24


def test_an_account_that_is_full_lets_go_of_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "world")
    world.principals.set_tags(world.call(), ANN, {"a": "b" * 100}, "")
    world.policies.attach(world.call(), POLICY, ADMIN)
    for limit in ("MAX_ACCOUNT_CHARACTERS", "MAX_RECORDS", "MAX_PRINCIPALS", "MAX_DECISION"):
        monkeypatch.setattr(plans, limit, 1)
    for reserve in ("RESERVED_RECORDS", "RESERVED_CHARACTERS"):
        monkeypatch.setattr(plans, reserve, 0)
    grows = (
        "Policies.create",
        "Policies.attach",
        "Principals.create",
        "ClientKeys.create",
        "OidcProviders.create",
    )
    world.policies.detach(world.call(), POLICY, ADMIN)
    for name in grows:
        with pytest.raises(StrongroomError) as refused:
            EDITS[name](world)
        assert refused.value.reason is Reason.LIMIT_EXCEEDED, name
    world.principals.set_tags(world.call(), ANN, {}, "")
    for name, edit in EDITS.items():
        if name not in (*grows, "Principals.set_tags"):
            edit(world)


@dataclass
class Limit:
    """How many of something there may be, and one too many."""

    name: str
    most: int
    edit: Callable[[World], Any]


@pytest.mark.parametrize(
    "limit",
    [
        Limit("MAX_PRINCIPALS", 5, EDITS["Principals.create"]),
        Limit("MAX_RECORDS", 20, EDITS["Principals.create"]),
        Limit("MAX_RECORDS", 20, lambda world: world.policies.create(world.call(), PERMITTING, None)),
        Limit("MAX_RECORDS", 20, EDITS["ClientKeys.create"]),
    ],
    ids=lambda limit: limit.name,
)
def test_what_an_account_has_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: Limit) -> None:
    world = World(tmp_path / "world", larger=3)
    monkeypatch.setattr(plans, limit.name, limit.most)
    with pytest.raises(StrongroomError) as refused:
        limit.edit(world)
    assert refused.value.reason is Reason.LIMIT_EXCEEDED
    monkeypatch.setattr(plans, limit.name, 2 * limit.most)
    limit.edit(world)


def test_credentials_and_what_may_have_a_quota_take_room(tmp_path: Path) -> None:
    world = World(tmp_path / "world")

    def characters() -> int:
        with reading(world.engine) as connection:
            return store.account_characters(connection, "acme")

    before = characters()
    for name in ("ClientKeys.create", "OidcProviders.create"):
        EDITS[name](world)
        assert characters() > before + 20, name
        before = characters()
    # It is told to every service whether or not it is ended.
    world.client_keys.delete(world.call(), world.key.name, "")
    # Its room is its principal's.
    EDITS["Quotas.update"](world)
    assert characters() == before


def test_a_principal_that_much_hangs_on_does_not_end_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.keystore.access.accounts.principals.MAX_TAKEN_ALONG", 1)
    world = World(tmp_path / "world")
    with pytest.raises(StrongroomError) as refused:
        world.principals.delete(world.call(), ANN, "")
    assert refused.value.reason is Reason.LIMIT_EXCEEDED
    world.policies.detach(world.call(), POLICY, ANN)
    world.principals.delete(world.call(), ANN, "")


def test_who_can_change_policies_is_looked_for_among_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "world", larger=60)
    decided: list[decisions.Question] = []
    decider = decisions.Decider

    def counting(question: decisions.Question, *arguments: Any) -> decisions.Decider:
        decided.append(question)
        return decider(question, *arguments)

    monkeypatch.setattr(lockout, "Decider", counting)
    nobody = 'forbid (principal, action in Strongroom::Action::"access", resource);'
    locking = Policy(f"{ACCOUNT}/policies/new", POLICY_KIND_IDENTITY, nobody, (ACCOUNT,), "")
    with pytest.raises(StrongroomError) as refused:
        world.policies.create(world.call(), locking, None)
    assert refused.value.reason is Reason.POLICY_LOCKOUT
    # The administrator, and Ann: nobody else is permitted anything.
    assert {question.principal.name for question in decided} == {ADMIN, ANN}
    # With everybody permitted it is one of each kind, of whom policies speak by name, and no more than a search takes.
    world.policies.create(
        world.call(), Policy(f"{ACCOUNT}/policies/all", POLICY_KIND_IDENTITY, PERMIT, (ACCOUNT,), ""), None
    )
    monkeypatch.setattr(lockout, "_SEARCH", 10 * lockout._ASKING)
    decided.clear()
    with pytest.raises(StrongroomError):
        world.policies.create(world.call(), locking, None)
    assert 3 <= len({question.principal.name for question in decided}) <= 10


@pytest.mark.parametrize(
    "condition",
    [
        f'principal == Strongroom::User::"{ACCOUNT}/users/u57"',
        'principal.hasTag("number") && principal.getTag("number") == "57"',
        f'resource == Strongroom::User::"{ACCOUNT}/users/u57" || !(resource is Strongroom::User)',
    ],
)
def test_the_one_who_still_can_is_found_by_what_policies_say_of_her(tmp_path: Path, condition: str) -> None:
    world = World(tmp_path / "world", larger=60)
    only = f"permit (principal, action, resource) when {{ {condition} }};"
    world.policies.create(
        world.call(), Policy(f"{ACCOUNT}/policies/only", POLICY_KIND_IDENTITY, only, (ACCOUNT,), ""), None
    )
    world.principals.disable(world.call(), ANN)
    assert replace(world.principals.disable(world.call(), ADMIN)).disabled
    with pytest.raises(StrongroomError) as refused:
        world.principals.disable(world.call(), f"{ACCOUNT}/users/u57")
    assert refused.value.reason is Reason.POLICY_LOCKOUT
