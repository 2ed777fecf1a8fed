"""Decisions: default deny, a forbid wins, both accounts have a say, and an event for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from services.runtime import encryption_context
from services.runtime.access import authorization, decisions
from services.runtime.access.authorization import DEFAULT_DENY, Resource
from services.runtime.call import Principal, SessionScope
from services.runtime.errors import Reason, StrongroomError
from strongroom.access.v1.access_record_service_pb2 import AccountAccess, GrantRecord, PolicyRecord
from strongroom.access.v1.grant_pb2 import ContextPairs, GrantConstraint
from strongroom.access.v1.session_service_pb2 import CREDENTIAL_KIND_CLIENT_KEY
from strongroom.audit.v1.event_pb2 import Outcome
from tests.support.access_world import World, call_of

ANN = "accounts/acme/users/ann"
OPERATOR = "accounts/acme/roles/operator"
VENDOR = "accounts/isv/workloads/app"
UID = bytes(16)
KEY = Resource("Key", "accounts/acme/keys/payments", "acme", 1, {"team": "payments"}, {}, UID)
POLICY = "accounts/acme/policies/one"
ANYTHING = "permit (principal, action, resource);"


@pytest.fixture
def world() -> World:
    world = World()
    world.principal(OPERATOR)
    world.principal(ANN, [OPERATOR], {"team": "payments"})
    world.principal(VENDOR)
    return world


def allowed(
    world: World,
    principal: Principal | str = ANN,
    action: str = "crypto:Encrypt",
    resource: Resource = KEY,
    pairs: dict[str, str] | None = None,
    made: Mapping[str, str] | None = None,
) -> str:
    """What permitted it."""
    call = call_of(principal, action, **(made or {}))
    return world.authorizer.authorize(call, action, resource, encryption_context.of(pairs or {})).decided_by


def denied(
    world: World,
    principal: Principal | str = ANN,
    action: str = "crypto:Encrypt",
    resource: Resource = KEY,
    pairs: dict[str, str] | None = None,
    reason: Reason = Reason.PERMISSION_DENIED,
    made: Mapping[str, str] | None = None,
) -> str:
    """What refused it."""
    call = call_of(principal, action, **(made or {}))
    with pytest.raises(StrongroomError) as refused:
        world.authorizer.authorize(call, action, resource, encryption_context.of(pairs or {}))
    (event,) = call.events
    assert (refused.value.reason, event.reason, event.outcome) == (reason, reason, Outcome.OUTCOME_DENIED)
    return event.decided_by


def test_without_a_policy_everything_is_denied(world: World) -> None:
    assert denied(world) == DEFAULT_DENY


def test_a_permit_allows_and_is_named(world: World) -> None:
    world.policy(POLICY, 'permit(principal, action == Strongroom::Action::"crypto:Encrypt", resource);')
    assert allowed(world) == POLICY
    assert denied(world, action="crypto:Decrypt") == DEFAULT_DENY


def test_a_forbid_wins_over_a_permit_and_is_named_with_its_number(world: World) -> None:
    world.policy(
        POLICY, ANYTHING + 'forbid(principal, action, resource) when { resource.getTag("team") == "payments" };'
    )
    assert denied(world) == f"{POLICY}#1"
    assert allowed(world, resource=replace(KEY, tags={"team": "other"}, revision=2)) == f"{POLICY}#0"


def test_policies_reach_whom_they_are_attached_to(world: World) -> None:
    world.principal("accounts/acme/users/bob")
    world.policy(POLICY, ANYTHING, OPERATOR)
    assert allowed(world) == POLICY
    assert denied(world, "accounts/acme/users/bob") == DEFAULT_DENY


def test_conditions_on_the_encryption_context_hold(world: World) -> None:
    condition = 'context.encryption_context.contains({key: "tenant", value: "a"})'
    world.policy(POLICY, f"permit(principal, action, resource) when {{ {condition} }};")
    allowed(world, pairs={"tenant": "a", "x": "y"})
    denied(world, pairs={"tenant": "b"})
    denied(world)


def test_conditions_on_tags_address_time_protection_level_and_service_hold(world: World) -> None:
    when = (
        'principal.hasTag("team") && principal.getTag("team") == resource.getTag("team")'
        ' && context has source_address && context.source_address.isInRange(ip("10.0.0.0/8"))'
        ' && context.time < datetime("1970-01-12T13:46:41Z") && resource.protection_level == "HSM"'
        ' && context.via_service == "services/secrets"'
    )
    world.policy(POLICY, f"permit(principal, action, resource) when {{ {when} }};")
    key = replace(KEY, attributes={"protection_level": "HSM"})
    right = {"source_address": "10.1.2.3", "via_service": "services/secrets"}
    allowed(world, resource=key, made=right)
    denied(world, resource=key, made={**right, "source_address": "192.0.2.1"})
    denied(world, resource=key, made={**right, "source_address": "unix:"})
    denied(world, resource=key, made={**right, "via_service": ""})
    denied(world, resource=replace(key, tags={"team": "other"}, revision=2), made=right)
    denied(world, resource=replace(key, attributes={"protection_level": "SOFTWARE"}, revision=3), made=right)
    world.now += 1
    denied(world, resource=key, made=right)


@pytest.mark.parametrize(
    "stranger", ["accounts/acme/users/nobody", "accounts/other/users/ann", ""], ids=["unknown", "account", "none"]
)
def test_strangers_are_denied(world: World, stranger: str) -> None:
    world.policy(POLICY, ANYTHING)
    assert denied(world, stranger) == "principal-unknown"


def test_a_resource_of_no_account_is_denied_where_the_callers_auditor_sees_it(world: World) -> None:
    world.policy(POLICY, ANYTHING)
    call = call_of(ANN)
    with pytest.raises(StrongroomError):
        world.authorizer.authorize(call, "crypto:Encrypt", Resource("Key", "accounts/none/keys/k", "none"))
    assert call.events[0].account == "acme"


def test_changes_of_a_principal_take_effect_with_the_change(world: World) -> None:
    world.policy(POLICY, ANYTHING)
    allowed(world)
    world.edited("acme").principals[1].disabled = True
    world.told("acme")
    assert denied(world, reason=Reason.PRINCIPAL_DISABLED) == "principal-disabled"
    world.edited("acme").disabled = True
    world.told("acme")
    assert denied(world, reason=Reason.PRINCIPAL_DISABLED) == "account-disabled"


class TestAcrossAccounts:
    """The principal's account and the key's both have to permit."""

    MINE = "accounts/isv/policies/customers"
    THEIRS = "accounts/acme/policies/vendor"

    def test_one_side_alone_is_not_enough(self, world: World) -> None:
        world.policy(self.MINE, ANYTHING)
        assert denied(world, VENDOR) == DEFAULT_DENY
        world.resource_policy(
            KEY.name, self.THEIRS, f'permit(principal == Strongroom::Workload::"{VENDOR}", action, resource);'
        )
        assert allowed(world, VENDOR) == f"{self.THEIRS}, {self.MINE}"

    def test_the_owner_alone_is_not_enough(self, world: World) -> None:
        world.resource_policy(KEY.name, self.THEIRS, ANYTHING)
        assert denied(world, VENDOR) == DEFAULT_DENY

    @pytest.mark.parametrize("side", ["mine", "theirs"])
    def test_a_forbid_of_either_side_wins(self, world: World, side: str) -> None:
        forbid = ANYTHING + "forbid (principal, action, resource);"
        world.policy(self.MINE, forbid if side == "mine" else ANYTHING)
        world.resource_policy(KEY.name, self.THEIRS, forbid if side == "theirs" else ANYTHING)
        assert denied(world, VENDOR) == (f"{self.MINE}#1" if side == "mine" else f"{self.THEIRS}#1")

    def test_a_disabled_owner_lets_nobody_in(self, world: World) -> None:
        world.policy(self.MINE, ANYTHING)
        world.resource_policy(KEY.name, self.THEIRS, ANYTHING)
        world.edited("acme").disabled = True
        world.told("acme")
        assert denied(world, VENDOR) == "account-disabled"

    def test_the_event_is_the_owners(self, world: World) -> None:
        call = call_of(VENDOR)
        with pytest.raises(StrongroomError):
            world.authorizer.authorize(call, "crypto:Encrypt", KEY)
        assert (call.events[0].account, call.events[0].principal) == ("acme", VENDOR)


def test_within_one_account_a_resource_policy_suffices(world: World) -> None:
    world.resource_policy(KEY.name, POLICY, ANYTHING)
    assert allowed(world) == POLICY
    assert denied(world, resource=replace(KEY, name="accounts/acme/keys/other")) == DEFAULT_DENY


def test_what_a_service_does_by_itself_the_resources_account_permits(world: World) -> None:
    service = 'principal == Strongroom::Service::"services/secrets"'
    assert denied(world, "services/secrets") == DEFAULT_DENY
    world.policy("accounts/isv/policies/services", f"permit ({service}, action, resource);")
    assert denied(world, "services/secrets") == DEFAULT_DENY
    world.policy(POLICY, f"permit ({service}, action, resource);")
    assert allowed(world, "services/secrets") == POLICY
    assert denied(world, "services/audit") == DEFAULT_DENY
    world.edited("acme").disabled = True
    world.told("acme")
    assert denied(world, "services/secrets") == "account-disabled"


class TestSessions:
    """A session narrows, and ends when what it rests on does."""

    ROLE = Principal(OPERATOR, "acme", "s", "accounts/isv/clientKeys/k", 2e6, 1e6, CREDENTIAL_KIND_CLIENT_KEY)

    def session(self, *policies: str, **tags: str) -> Principal:
        return replace(self.ROLE, scope=SessionScope(policies, tuple(tags.items()), (VENDOR,)))

    def test_its_policies_only_narrow(self, world: World) -> None:
        encrypt = 'permit (principal, action == Strongroom::Action::"crypto:Encrypt", resource);'
        assert denied(world, self.session(ANYTHING)) == DEFAULT_DENY
        world.policy(POLICY, ANYTHING)
        assert allowed(world, self.session(ANYTHING)) == POLICY
        assert denied(world, self.session(encrypt), "crypto:Decrypt") == "session-policy"
        assert allowed(world, self.session(encrypt, ANYTHING)) == POLICY
        assert denied(world, self.session(encrypt, "forbid (principal, action, resource);")) == "session-policy"

    def test_its_tags_take_part(self, world: World) -> None:
        condition = 'context.session_tags.contains({key: "team", value: resource.getTag("team")})'
        world.policy(POLICY, f"permit (principal, action, resource) when {{ {condition} }};")
        allowed(world, self.session(team="payments"))
        denied(world, self.session(team="other"))

    def test_it_ends_with_whoever_assumed_the_role(self, world: World) -> None:
        world.policy(POLICY, ANYTHING)
        allowed(world, self.session())
        world.edited("isv").principals[0].disabled = True
        world.told("isv")
        assert denied(world, self.session(), reason=Reason.PRINCIPAL_DISABLED) == "principal-disabled"

    def test_it_ends_when_sessions_are_revoked_and_later_ones_do_not(self, world: World) -> None:
        world.policy(POLICY, ANYTHING)
        world.edited("acme").principals[0].sessions_valid_after.FromSeconds(1_000_001)
        world.told("acme")
        assert denied(world, self.session(), reason=Reason.TOKEN_INVALID) == "session-ended"
        allowed(world, replace(self.session(), issued=1_000_001.0))

    @pytest.mark.parametrize("owner", ["acme", "isv"])
    def test_it_ends_alone_or_with_the_session_that_it_was_begun_from(self, world: World, owner: str) -> None:
        world.policy(POLICY, ANYTHING)
        ended = replace(self.session(), session_ids=("own", "before"))
        world.edited(owner).principals[0].ended_sessions.append("own" if owner == "acme" else "before")
        world.told(owner)
        assert denied(world, ended, reason=Reason.TOKEN_INVALID) == "session-ended"
        allowed(world, replace(ended, session_ids=("other", "another")))

    def test_it_ends_with_its_client_key(self, world: World) -> None:
        world.policy(POLICY, ANYTHING)
        world.edited("isv").ended_client_keys.append("accounts/isv/clientKeys/k")
        world.told("isv")
        assert denied(world, self.session(), reason=Reason.TOKEN_INVALID) == "session-ended"


class TestGrants:
    """A grant stands in for a policy of the key's owner."""

    MINE = "accounts/isv/policies/customers"
    NAME = "accounts/acme/grants/g1"

    def grant(self, world: World, name: str = NAME, grantee: str = VENDOR, **limits: object) -> None:
        world.grant(KEY.name, UID, GrantRecord(name=name, grantee=grantee, operations=["crypto:Encrypt"], **limits))  # type: ignore[arg-type]

    def test_it_permits_its_operations_to_its_grantee(self, world: World) -> None:
        world.policy(self.MINE, ANYTHING)
        self.grant(world)
        assert allowed(world, VENDOR) == f"{self.NAME}, {self.MINE}"
        assert denied(world, VENDOR, "crypto:Decrypt") == DEFAULT_DENY
        assert denied(world, ANN) == DEFAULT_DENY

    def test_across_accounts_it_is_one_side_alone(self, world: World) -> None:
        self.grant(world)
        assert denied(world, VENDOR) == DEFAULT_DENY

    def test_it_cannot_undo_a_forbid(self, world: World) -> None:
        world.policy(POLICY, "forbid (principal, action, resource);")
        self.grant(world, grantee=ANN)
        assert denied(world) == POLICY

    def test_a_role_that_is_held_has_it_too(self, world: World) -> None:
        self.grant(world, grantee=OPERATOR)
        assert allowed(world) == self.NAME

    def test_its_constraint_holds(self, world: World) -> None:
        pairs = ContextPairs(pairs={"disk": "d1"})
        self.grant(world, grantee=ANN, constraint=GrantConstraint(context_equals=pairs))
        allowed(world, pairs={"disk": "d1"})
        denied(world, pairs={"disk": "d1", "more": "x"})
        self.grant(world, "accounts/acme/grants/g2", ANN, constraint=GrantConstraint(context_contains=pairs))
        allowed(world, pairs={"disk": "d1", "more": "x"})
        denied(world, pairs={"disk": "d2"})

    def test_it_ends_when_it_expires_or_is_revoked(self, world: World) -> None:
        expiring = GrantRecord(name=self.NAME, grantee=ANN, operations=["crypto:Encrypt"])
        expiring.expire_time.FromSeconds(1_000_010)
        world.grant(KEY.name, UID, expiring)
        allowed(world)
        world.now = 1_000_010
        denied(world)
        self.grant(world, "accounts/acme/grants/g2", ANN)
        assert allowed(world) == "accounts/acme/grants/g2"
        world.revoke(KEY.name, UID, "accounts/acme/grants/g2")
        denied(world)

    def test_few_grants_are_read_once_whatever_the_context(self, world: World) -> None:
        self.grant(world, grantee=ANN)
        for number in range(5):
            allowed(world, pairs={"row": str(number)})
        assert world.reads == [""]

    def test_many_grants_are_looked_up_by_context(self, world: World) -> None:
        for number in range(150):
            constraint = GrantConstraint(context_contains=ContextPairs(pairs={"disk": str(number)}))
            self.grant(world, f"accounts/acme/grants/g-{number}", ANN, constraint=constraint)
        for _ in range(3):
            assert allowed(world, pairs={"disk": "149"}) == "accounts/acme/grants/g-149"
            denied(world, pairs={"disk": "150"})
        assert world.reads == ["", "crypto:Encrypt", "crypto:Encrypt"]
        world.revoke(KEY.name, UID, "accounts/acme/grants/g-149")
        denied(world, pairs={"disk": "149"})


def test_a_principal_is_a_resource_with_the_tags_that_it_has_now(world: World) -> None:
    make = "access:CreateClientKey"
    tagged = 'resource.hasTag("team") && resource.getTag("team") == "batch"'
    world.policy(POLICY, f"permit (principal, action, resource) when {{ {tagged} }};", ANN)
    workload = "accounts/acme/workloads/batch"

    def resource() -> Resource:
        return world.authorizer.principal_resource(workload)

    assert (resource().kind, resource().tags) == ("Workload", {})
    assert denied(world, ANN, make, resource()) == DEFAULT_DENY
    world.now += 1
    world.principal(workload, tags={"team": "batch"})
    assert resource().tags == {"team": "batch"}
    assert allowed(world, ANN, make, resource()) == POLICY
    assert world.authorizer.principal_resource(ANN).kind == "User"
    assert denied(world, VENDOR, make, resource()) == DEFAULT_DENY


def test_what_is_refused_across_accounts_takes_the_same_work_as_what_does_not_exist(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever policies of its own a caller makes slow, it learns nothing from how long a refusal takes."""
    made: list[str] = []

    class Counted(decisions.Decider):
        def __init__(self, question: decisions.Question, *rest: Any) -> None:
            made.append(question.resource.name)
            super().__init__(question, *rest)

    monkeypatch.setattr(authorization, "Decider", Counted)
    absent = Resource("Key", "accounts/acme/keys/none", "acme")
    # A key as crypto has it comes with its policies.
    for policies in (None, decisions.NO_POLICIES):
        there, nowhere = replace(KEY, policies=policies), replace(absent, policies=policies)
        denied_across(world, there)
        made.clear()
        for resource in (there, nowhere, there, nowhere):
            denied_across(world, resource)
        assert made.count(there.name) == made.count(nowhere.name)


class Asked(World):
    """A world that says what it was asked for, besides the caller's own account."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__()

    def account_access(self, account: str) -> tuple[AccountAccess | None, int]:
        if account != "vendor":
            self.asked.append("account")
        return super().account_access(account)

    def resource_policies(self, resource: str) -> tuple[Sequence[PolicyRecord], int]:
        self.asked.append("policies")
        return super().resource_policies(resource)

    def find_grants(
        self, key: str, principal: str, action: str, pairs: Mapping[str, str], limit: int
    ) -> tuple[Sequence[GrantRecord], int]:
        self.asked.append("grants")
        return super().find_grants(key, principal, action, pairs, limit)


SECRET = Resource("Secret", "accounts/acme/secrets/s", "acme", 7)


@pytest.mark.parametrize("action", ["crypto:Encrypt", "keystore:DisableKey", "secrets:GetSecretValue"])
@pytest.mark.parametrize("permit", ["permit", "forbid"])
@pytest.mark.parametrize("state", ["standing", "disabled"])
def test_keystore_is_asked_as_often_for_what_there_is_as_for_what_there_is_not(
    action: str, permit: str, state: str
) -> None:
    there = SECRET if action.startswith("secrets") else KEY
    absent = replace(there, name=f"{there.name}-none", revision=0, uid=b"")
    nowhere = replace(absent, name=there.name.replace("acme", "nowhere"), account="nowhere")
    asked: dict[str, list[list[str]]] = {}
    for resource in (there, absent, nowhere):
        world = Asked()
        world.principal(ANN)
        world.principal(VENDOR)
        world.policy("accounts/vendor/policies/p", f"{permit} (principal, action, resource);")
        world.edited("acme").disabled = state == "disabled"
        world.told("acme")
        rounds = asked.setdefault(resource.name, [])
        # What nobody has asked for yet, what somebody has, and a batch.
        for count in (1, 1, 3):
            call = call_of(VENDOR, action)
            for _ in range(count):
                with pytest.raises(StrongroomError):
                    world.authorizer.authorize(call, action, resource)
            rounds.append(sorted(world.asked))
            world.asked.clear()
    first, *others = asked.values()
    assert [others[0], others[1]] == [first, first]
    assert "account" in first[1]


def denied_across(world: World, resource: Resource) -> None:
    call = call_of(VENDOR)
    with pytest.raises(StrongroomError) as refused:
        world.authorizer.authorize(call, call.action, resource)
    assert refused.value.reason is Reason.PERMISSION_DENIED
