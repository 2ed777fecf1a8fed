"""Random changes of who may change policies, against a model: an account never loses the last one who may."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from services.keystore.access.accounts.principals import Principals
from services.keystore.access.editing import kinds
from services.keystore.access.editing.editing import AccessEditor, insert
from services.keystore.access.policies.policies import Policies
from services.keystore.access.records.resources import Account, Policy, Principal, RoleSettings
from services.runtime.access.authorization import Authorizer
from services.runtime.audit_client import AuditClient
from services.runtime.call import Call
from services.runtime.call import Principal as Caller
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.database import open_database, transaction
from services.runtime.storage.outbox import Outbox
from strongroom.access.v1.policy_pb2 import POLICY_KIND_IDENTITY
from tests.support import databases
from tests.support.clocks import StillClock
from tests.support.everybody import Everybody
from tests.support.sealing import sealed

ACCOUNT = "accounts/acme"
USERS = tuple(f"{ACCOUNT}/users/{name}" for name in ("ann", "bob"))
ROLE = f"{ACCOUNT}/roles/operator"
TARGETS = (ACCOUNT, *USERS, ROLE)
POLICIES = tuple(f"{ACCOUNT}/policies/{name}" for name in ("one", "two"))
TEXTS = {
    "everything": "permit (principal, action, resource);",
    "nothing-of-access": 'forbid (principal, action in Strongroom::Action::"access", resource);',
    "use": 'permit (principal, action in Strongroom::Action::"crypto", resource);',
}

users, targets, policies = st.sampled_from(USERS), st.sampled_from(TARGETS), st.sampled_from(POLICIES)
texts = st.sampled_from(sorted(TEXTS))


@dataclass
class Model:
    """An account as a person would note it down."""

    text: dict[str, str] = field(default_factory=lambda: {POLICIES[0]: "everything", POLICIES[1]: "use"})
    attached: dict[str, set[str]] = field(default_factory=lambda: {POLICIES[0]: {USERS[0]}, POLICIES[1]: set()})
    holders: set[str] = field(default_factory=set)
    disabled: set[str] = field(default_factory=set)

    def somebody_may(self) -> bool:
        return any(self._may(user) for user in USERS if user not in self.disabled)

    def _may(self, user: str) -> bool:
        reached_by = {ACCOUNT, user, *([ROLE] if user in self.holders else [])}
        said = {self.text[policy] for policy in POLICIES if self.attached[policy] & reached_by}
        return "everything" in said and "nothing-of-access" not in said


class Lives(RuleBasedStateMachine):
    """Changes by anybody who is permitted everything; what would leave nobody has to be refused, and to change
    nothing."""

    @initialize()
    def make(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        path = Path(self.directory.name) / "keystore.db"
        self.engine = sealed(open_database(Database(url=f"sqlite:///{path}")))
        databases.migrate(self.engine, "keystore")
        outbox = Outbox(self.engine, cast(AuditClient, None))
        editor = AccessEditor(self.engine, cast(Authorizer, Everybody()), outbox, StillClock(1_800_000_000_000_000))
        self.policies, self.principals = Policies(editor, "mesh"), Principals(editor)
        self.model = Model()
        with transaction(self.engine) as connection:
            insert(connection, kinds.ACCOUNT, Account(ACCOUNT, "", {}), 1)
            for user in USERS:
                insert(connection, kinds.PRINCIPAL, Principal(user, "", {}), 1)
            trust = RoleSettings("forbid (principal, action, resource);", 3600)
            insert(connection, kinds.PRINCIPAL, Principal(ROLE, "", {}, role_settings=trust), 1)
            for name in POLICIES:
                attached_to = tuple(self.model.attached[name])
                cedar = TEXTS[self.model.text[name]]
                insert(connection, kinds.POLICY, Policy(name, POLICY_KIND_IDENTITY, cedar, attached_to, ""), 1)

    def teardown(self) -> None:
        self.engine.dispose()
        self.directory.cleanup()

    def step(self, wanted: Model, work: Callable[[Call], Any]) -> None:
        """Does `work`, which makes the account as `wanted` just when somebody may then still change policies."""
        call = Call("test", "Test", "access:Test", principal=Caller(USERS[1], "acme"))
        legal = wanted.somebody_may()
        try:
            work(call)
        except StrongroomError as error:
            assert error.reason is Reason.POLICY_LOCKOUT
            assert not legal
        else:
            assert legal
            self.model = wanted

    @rule(policy=policies, on=targets)
    def attach(self, policy: str, on: str) -> None:
        wanted = copy.deepcopy(self.model)
        wanted.attached[policy].add(on)
        self.step(wanted, lambda call: self.policies.attach(call, policy, on))

    @rule(policy=policies, on=targets)
    def detach(self, policy: str, on: str) -> None:
        wanted = copy.deepcopy(self.model)
        wanted.attached[policy].discard(on)
        self.step(wanted, lambda call: self.policies.detach(call, policy, on))

    @rule(policy=policies, text=texts)
    def rewrite(self, policy: str, text: str) -> None:
        wanted = copy.deepcopy(self.model)
        wanted.text[policy] = text
        self.step(wanted, lambda call: self.policies.update(call, policy, TEXTS[text], None, ""))

    @rule(policy=policies, text=texts, on=targets)
    def replace(self, policy: str, text: str, on: str) -> None:
        without = copy.deepcopy(self.model)
        without.attached[policy] = set()
        self.step(without, lambda call: self.policies.delete(call, policy, ""))
        if self.model is without:
            wanted = copy.deepcopy(without)
            wanted.text[policy], wanted.attached[policy] = text, {on}
            made = Policy(policy, POLICY_KIND_IDENTITY, TEXTS[text], (on,), "")
            self.step(wanted, lambda call: self.policies.create(call, made, None))
            if self.model is without:
                # Refused: it has to be there for the next rule, and says nothing to anybody.
                wanted.attached[policy] = set()
                idle = Policy(policy, POLICY_KIND_IDENTITY, TEXTS[text], (), "")
                self.step(wanted, lambda call: self.policies.create(call, idle, None))

    @rule(user=users, holds=st.booleans())
    def set_roles(self, user: str, holds: bool) -> None:
        wanted = copy.deepcopy(self.model)
        (wanted.holders.add if holds else wanted.holders.discard)(user)
        self.step(wanted, lambda call: self.principals.set_roles(call, user, (ROLE,) if holds else (), ""))

    @rule(user=users, disabled=st.booleans())
    def disable(self, user: str, disabled: bool) -> None:
        wanted = copy.deepcopy(self.model)
        (wanted.disabled.add if disabled else wanted.disabled.discard)(user)
        work = self.principals.disable if disabled else self.principals.enable
        self.step(wanted, lambda call: work(call, user))


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)
