"""Decisions: default deny, a forbid wins, conditions on the encryption context, and an event for each."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.runtime.authorization import DEFAULT_DENY, Authorizer, Resource
from services.runtime.call import Call, Principal
from services.runtime.changes import ChangeFeed
from services.runtime.errors import Reason, StrongroomError
from strongroom.access.v1.access_record_service_pb2 import AccountAccess, PolicyRecord, PrincipalRecord, TokenKey
from strongroom.audit.v1.event_pb2 import Outcome
from strongroom.keystore.v1.key_record_service_pb2 import (
    Change,
    ChangeKind,
    ListChangesRequest,
    ListChangesResponse,
)

ANN = "accounts/acme/users/ann"
OPERATOR = "accounts/acme/roles/operator"
KEY = Resource("Key", "accounts/acme/keys/payments", "acme", 1, {"team": "payments"})


class Records:
    """One account, whose access record tests change."""

    def __init__(self) -> None:
        self.access = AccountAccess(account="acme", principals=[PrincipalRecord(name=ANN, roles=[OPERATOR])])
        self.changes: list[Change] = []

    def policy(self, name: str, cedar: str, *attached_to: str) -> None:
        self.access.policies.append(PolicyRecord(name=name, cedar=cedar, attached_to=attached_to))

    def account_access(self, account: str) -> tuple[AccountAccess | None, int]:
        return (self.access if account == "acme" else None), len(self.changes)

    def resource_policies(self, resource: str) -> tuple[Sequence[PolicyRecord], int]:
        return [], len(self.changes)

    def resolve_identity(self, spiffe_id: str) -> tuple[str | None, int]:
        raise NotImplementedError

    def token_keys(self) -> tuple[Sequence[TokenKey], int]:
        raise NotImplementedError

    def list_changes(self, request: ListChangesRequest, *, timeout: float) -> ListChangesResponse:
        changes = self.changes[request.since :] if request.since >= 0 else []
        return ListChangesResponse(changes=changes, revision=len(self.changes))


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def feed(records: Records) -> ChangeFeed:
    return ChangeFeed(records.list_changes)


@pytest.fixture
def authorizer(records: Records, feed: ChangeFeed) -> Authorizer:
    authorizer = Authorizer(records, feed)
    feed.poll()
    return authorizer


def call(principal: str = ANN, account: str = "acme") -> Call:
    return Call(
        "strongroom.crypto.v1.CryptoService", "Encrypt", "crypto:Encrypt", principal=Principal(principal, account)
    )


def denied(authorizer: Authorizer, caller: Call, resource: Resource = KEY, **context: str) -> bool:
    with pytest.raises(StrongroomError) as refused:
        authorizer.authorize(caller, "crypto:Encrypt", resource, context, repr(context).encode())
    (event,) = caller.events
    assert event.outcome == Outcome.OUTCOME_DENIED
    return refused.value.reason is Reason.PERMISSION_DENIED


def test_without_a_policy_everything_is_denied(authorizer: Authorizer) -> None:
    caller = call()
    assert denied(authorizer, caller)
    assert caller.events[0].decided_by == DEFAULT_DENY


def test_a_permit_allows_and_is_named(records: Records, authorizer: Authorizer) -> None:
    records.policy("policies/use", 'permit(principal, action == Strongroom::Action::"crypto:Encrypt", resource);')
    event = authorizer.authorize(call(), "crypto:Encrypt", KEY)
    assert (event.decided_by, event.resource, event.principal) == ("policies/use", KEY.name, ANN)


def test_a_forbid_wins_over_a_permit(records: Records, authorizer: Authorizer) -> None:
    records.policy("policies/use", "permit(principal, action, resource);")
    records.policy(
        "policies/not-payments", 'forbid(principal, action, resource) when { resource.getTag("team") == "payments" };'
    )
    caller = call()
    assert denied(authorizer, caller)
    assert caller.events[0].decided_by == "policies/not-payments"


def test_an_action_group_covers_the_actions_of_a_service(records: Records, authorizer: Authorizer) -> None:
    records.policy("policies/use", 'permit(principal, action in Strongroom::Action::"crypto", resource);')
    authorizer.authorize(call(), "crypto:Encrypt", KEY)
    with pytest.raises(StrongroomError):
        authorizer.authorize(call(), "keystore:DisableKey", KEY)


def test_policies_reach_whom_they_are_attached_to(records: Records, authorizer: Authorizer) -> None:
    records.access.principals.add(name="accounts/acme/users/bob")
    records.policy("policies/use", "permit(principal, action, resource);", OPERATOR)
    authorizer.authorize(call(), "crypto:Encrypt", KEY)
    assert denied(authorizer, call("accounts/acme/users/bob"))


def test_conditions_on_the_encryption_context_hold(records: Records, authorizer: Authorizer) -> None:
    condition = 'context.encryption_context.contains({key: "tenant", value: "a"})'
    records.policy("policies/tenant-a", f"permit(principal, action, resource) when {{ {condition} }};")
    authorizer.authorize(call(), "crypto:Encrypt", KEY, {"tenant": "a", "x": "y"}, b"a")
    assert denied(authorizer, call(), tenant="b")
    assert denied(authorizer, call())


@pytest.mark.parametrize(
    ("principal", "account"),
    [("accounts/acme/users/nobody", "acme"), ("accounts/other/users/ann", "other"), ("", "")],
    ids=["unknown", "unknown-account", "none"],
)
def test_strangers_are_denied(records: Records, authorizer: Authorizer, principal: str, account: str) -> None:
    records.policy("policies/all", "permit(principal, action, resource);")
    assert denied(authorizer, call(principal, account))


def test_a_resource_of_another_account_is_denied(records: Records, authorizer: Authorizer) -> None:
    records.policy("policies/all", "permit(principal, action, resource);")
    caller = call()
    assert denied(authorizer, caller, Resource("Key", "accounts/other/keys/k", "other"))
    # No account of that name exists, so the caller's own auditor sees the attempt.
    assert caller.events[0].account == "acme"


def test_a_disabled_principal_is_denied_as_soon_as_the_change_arrives(
    records: Records, feed: ChangeFeed, authorizer: Authorizer
) -> None:
    records.policy("policies/all", "permit(principal, action, resource);")
    authorizer.authorize(call(), "crypto:Encrypt", KEY)
    changed = AccountAccess()
    changed.CopyFrom(records.access)
    changed.principals[0].disabled = True
    records.access = changed
    records.changes.append(Change(revision=1, kind=ChangeKind.CHANGE_KIND_PRINCIPAL, account="acme"))
    feed.poll()
    caller = call()
    assert denied(authorizer, caller)
    assert caller.events[0].decided_by == "principal-disabled"
