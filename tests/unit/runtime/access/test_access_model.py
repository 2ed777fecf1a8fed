"""Random policies, grants and principals, decided by the authorizer and by a model that shares nothing with it."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from services.runtime import encryption_context
from services.runtime.access.authorization import Resource
from services.runtime.call import Principal, SessionScope
from services.runtime.errors import StrongroomError
from strongroom.access.v1.access_record_service_pb2 import GrantRecord
from strongroom.access.v1.grant_pb2 import ContextPairs, GrantConstraint
from tests.support.access_world import World, call_of

ACCOUNTS = ("acme", "isv")
ROLES = {account: f"accounts/{account}/roles/r" for account in ACCOUNTS}
USERS = {f"accounts/{account}/users/{user}": account for account in ACCOUNTS for user in ("ann", "bob")}
KEYS = {f"accounts/{account}/keys/{key}": account for account in ACCOUNTS for key in ("k1", "k2")}
ACTIONS = ("crypto:Encrypt", "crypto:Decrypt", "keystore:GetKey")
PAIRS: tuple[dict[str, str], ...] = ({}, {"t": "a"}, {"t": "b"}, {"t": "a", "x": "y"})


@dataclass(frozen=True)
class Rule:
    """One statement. What is None limits nothing."""

    permits: bool
    who: str | None
    action: str | None
    key: str | None
    tenant: str | None
    unless_tagged: bool

    def cedar(self) -> str:
        who = "principal"
        if self.who is not None:
            kind = "Role" if "/roles/" in self.who else "User" if "/users/" in self.who else "Account"
            who = f'principal {"==" if kind == "User" else "in"} Strongroom::{kind}::"{self.who}"'
        action = "action"
        if self.action is not None:
            action = f'action {"==" if ":" in self.action else "in"} Strongroom::Action::"{self.action}"'
        key = "resource" if self.key is None else f'resource == Strongroom::Key::"{self.key}"'
        text = f"{'permit' if self.permits else 'forbid'} ({who}, {action}, {key})"
        if self.tenant is not None:
            text += f' when {{ context.encryption_context.contains({{key: "t", value: "{self.tenant}"}}) }}'
        if self.unless_tagged:
            text += ' unless { resource.hasTag("secret") }'
        return text + ";"

    def applies(self, who: set[str], action: str, key: str, pairs: dict[str, str], tagged: bool) -> bool:
        return (
            (self.who is None or self.who in who)
            and (self.action is None or self.action == action or action.startswith(f"{self.action}:"))
            and (self.key is None or self.key == key)
            and (self.tenant is None or pairs.get("t") == self.tenant)
            and not (self.unless_tagged and tagged)
        )


rules = st.builds(
    Rule,
    st.booleans(),
    st.sampled_from([None, None, *USERS, *ROLES.values(), *(f"accounts/{account}" for account in ACCOUNTS)]),
    st.sampled_from([None, "crypto", *ACTIONS]),
    st.sampled_from([None, *KEYS]),
    st.sampled_from([None, None, "a", "b"]),
    st.booleans(),
)
policies = st.lists(
    st.tuples(
        st.sampled_from(ACCOUNTS), st.lists(rules, min_size=1, max_size=2), st.sampled_from(["ann", "role", "all"])
    ),
    max_size=4,
)
resource_policies = st.lists(st.tuples(st.sampled_from(list(KEYS)), rules), max_size=3)
grants = st.lists(
    st.tuples(
        st.sampled_from(list(KEYS)),
        st.sampled_from([*USERS, *ROLES.values()]),
        st.sampled_from(ACTIONS),
        st.sampled_from(["any", "equals", "contains"]),
    ),
    max_size=3,
)
questions = st.lists(
    st.tuples(
        st.sampled_from(list(USERS)), st.sampled_from(ACTIONS), st.sampled_from(list(KEYS)), st.sampled_from(PAIRS)
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150)
@given(
    policies,
    resource_policies,
    grants,
    st.sets(st.sampled_from(list(USERS))),
    st.sets(st.sampled_from(list(KEYS))),
    st.lists(rules, max_size=1),
    questions,
)
def test_decisions_are_those_of_the_model(
    policies: list[tuple[str, list[Rule], str]],
    resource_policies: list[tuple[str, Rule]],
    grants: list[tuple[str, str, str, str]],
    holders: set[str],
    tagged: set[str],
    session: list[Rule],
    questions: list[tuple[str, str, str, dict[str, str]]],
) -> None:
    world = World()
    for account in ACCOUNTS:
        world.principal(ROLES[account])
    for user, account in USERS.items():
        world.principal(user, [ROLES[account]] if user in holders else [])
    attached = [
        (account, body, {"ann": f"accounts/{account}/users/ann", "role": ROLES[account], "all": ""}[to])
        for account, body, to in policies
    ]
    for number, (account, body, target) in enumerate(attached):
        text = "\n".join(rule.cedar() for rule in body)
        world.policy(f"accounts/{account}/policies/p{number}", text, *filter(None, [target]))
    for number, (key, rule) in enumerate(resource_policies):
        world.resource_policy(key, f"accounts/{KEYS[key]}/policies/r{number}", rule.cedar())
    uids = {key: bytes([number]) * 16 for number, key in enumerate(KEYS)}
    for number, (key, grantee, action, kind) in enumerate(grants):
        constraint = GrantConstraint()
        if kind != "any":
            getattr(constraint, f"context_{kind}").CopyFrom(ContextPairs(pairs={"t": "a"}))
        name = f"accounts/{KEYS[key]}/grants/g{number}"
        record = GrantRecord(name=name, grantee=grantee, operations=[action], constraint=constraint)
        world.grant(key, uids[key], record)

    def expected(user: str, action: str, key: str, pairs: dict[str, str]) -> bool:
        mine, theirs = USERS[user], KEYS[key]
        who = {user, f"accounts/{mine}", *([ROLES[mine]] if user in holders else [])}

        def applying(rules: list[Rule]) -> set[bool]:
            return {rule.permits for rule in rules if rule.applies(who, action, key, pairs, key in tagged)}

        identity = applying(
            [r for account, body, to in attached if account == mine and (not to or to in who) for r in body]
        )
        resource = applying([rule for on, rule in resource_policies if on == key])
        granted = any(
            (on, does) == (key, action)
            and grantee in who
            and (kind == "any" or (pairs == {"t": "a"} if kind == "equals" else pairs.get("t") == "a"))
            for on, grantee, does, kind in grants
        )
        if False in identity or False in resource or (session and applying(session) != {True}):
            return False
        owner = True in resource or granted
        return (True in identity and owner) if mine != theirs else (True in identity or owner)

    scope = SessionScope(tuple(rule.cedar() for rule in session))
    # Each twice: what is remembered must be what was decided.
    for user, action, key, pairs in questions * 2:
        tags = {"secret": "yes"} if key in tagged else {}
        resource = Resource("Key", key, KEYS[key], 1, tags, {}, uids[key])
        try:
            world.authorizer.authorize(
                call_of(Principal(user, USERS[user], scope=scope), action),
                action,
                resource,
                encryption_context.of(pairs),
            )
            permitted = True
        except StrongroomError:
            permitted = False
        assert permitted == expected(user, action, key, pairs), (user, action, key, pairs)
