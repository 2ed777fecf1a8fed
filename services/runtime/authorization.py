"""Who may do what: Cedar policies, default deny, decisions remembered until what they rest on changes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cedarpy

from services.runtime.access_records import AccessRecords
from services.runtime.call import Call, Principal
from services.runtime.changes import ChangeFeed, FreshCache
from services.runtime.errors import Reason, StrongroomError
from strongroom.access.v1.access_record_service_pb2 import AccountAccess, PolicyRecord, PrincipalRecord
from strongroom.audit.v1.event_pb2 import Event, Outcome
from strongroom.keystore.v1.key_record_service_pb2 import Change, ChangeKind

DEFAULT_DENY = "default-deny"

_CACHED_ACCOUNTS = 10_000
_CACHED_DECISIONS = 100_000
_PRINCIPAL_TYPES = {"users": "User", "workloads": "Workload", "roles": "Role"}
_ACCESS_CHANGES = (
    ChangeKind.CHANGE_KIND_POLICY,
    ChangeKind.CHANGE_KIND_PRINCIPAL,
    ChangeKind.CHANGE_KIND_ACCOUNT,
)


@dataclass(frozen=True, slots=True)
class Resource:
    """What an action is on. `kind` is the Cedar entity type: Key, Alias, Secret, Log, Account, …"""

    kind: str
    name: str
    account: str
    revision: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)


def account_resource(account: str) -> Resource:
    """The account itself, for what is done to no single resource of it."""
    return Resource("Account", f"accounts/{account}", account)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether an action is permitted, and the policy that decided."""

    allowed: bool
    decided_by: str


class Account:
    """An account's principals and policies at one revision, ready to decide."""

    def __init__(self, access: AccountAccess) -> None:
        self._principals = {principal.name: principal for principal in access.principals}
        self._policies = list(access.policies)
        self._policy_sets: dict[str, tuple[cedarpy.PolicySet, dict[str, str]]] = {}
        self.decisions: dict[tuple[Any, ...], Decision] = {}

    def principal(self, name: str) -> PrincipalRecord | None:
        """The record of a principal of this account."""
        return self._principals.get(name)

    def decide(
        self,
        principal: PrincipalRecord,
        action: str,
        resource: Resource,
        context: Mapping[str, Any],
    ) -> Decision:
        """Evaluates the policies that can apply to the principal: a forbid wins, without a permit it is denied."""
        policies, names = self._applicable(principal)
        result = cedarpy.is_authorized(
            {
                "principal": _principal_uid(principal.name),
                "action": _uid("Action", action),
                "resource": _uid(resource.kind, resource.name),
                "context": dict(context),
            },
            policies,
            _entities(principal, action, resource),
        )
        reasons = sorted({names[reason] for reason in result.diagnostics.reasons})
        return Decision(result.allowed, ", ".join(reasons) or DEFAULT_DENY)

    def _applicable(self, principal: PrincipalRecord) -> tuple[cedarpy.PolicySet, dict[str, str]]:
        cached = self._policy_sets.get(principal.name)
        if cached is None:
            who = {principal.name, *principal.roles}
            cached = _policy_set(p for p in self._policies if not p.attached_to or who.intersection(p.attached_to))
            self._policy_sets[principal.name] = cached
        return cached


class Authorizer:
    """Decides for one service process, from keystore's access records."""

    def __init__(self, records: AccessRecords, feed: ChangeFeed) -> None:
        self._records = records
        self._accounts: FreshCache[str, Account] = FreshCache(feed, _CACHED_ACCOUNTS)
        self._absent = Account(AccountAccess())
        feed.listen(self._changed, self._accounts.clear)

    def authorize(
        self,
        call: Call,
        action: str,
        resource: Resource,
        encryption_context: Mapping[str, str] | None = None,
        context_key: bytes = b"",
        item_count: int = 1,
    ) -> Event:
        """Returns the event that records the use, once it is permitted; raises PERMISSION_DENIED otherwise.

        `context_key` identifies the encryption context (its canonical bytes), so that decisions can be remembered.
        """
        principal = call.principal
        account = self._account(principal.account)
        owned = resource.account == principal.account or self._account(resource.account) is not self._absent
        event = call.record(
            action,
            resource.name,
            resource.account if owned else principal.account,
            encryption_context=encryption_context,
            item_count=item_count,
        )
        key = (principal.name, action, resource.name, resource.revision, context_key, call.via_service)
        decision = account.decisions.get(key)
        if decision is None:
            decision = self._decide(account, principal, action, resource, encryption_context or {}, call)
            if len(account.decisions) >= _CACHED_DECISIONS:
                account.decisions.clear()
            account.decisions[key] = decision
        event.decided_by = decision.decided_by
        if not decision.allowed:
            event.outcome = Outcome.OUTCOME_DENIED
            event.reason = Reason.PERMISSION_DENIED
            raise StrongroomError(
                Reason.PERMISSION_DENIED,
                f"{action} on {resource.name} is not permitted",
                action=action,
                resource=resource.name,
            )
        return event

    def _decide(
        self,
        account: Account,
        principal: Principal,
        action: str,
        resource: Resource,
        encryption_context: Mapping[str, str],
        call: Call,
    ) -> Decision:
        record = account.principal(principal.name)
        if record is None or record.disabled:
            return Decision(False, "principal-disabled" if record else "principal-unknown")
        if resource.account != principal.account:
            return Decision(False, DEFAULT_DENY)
        pairs = [{"key": key, "value": value} for key, value in sorted(encryption_context.items())]
        context = {"encryption_context": pairs, "via_service": call.via_service}
        return account.decide(record, action, resource, context)

    def _account(self, name: str) -> Account:
        return self._accounts.get(name, lambda: self._read(name))

    def _read(self, name: str) -> tuple[Account, int]:
        access, as_of_revision = self._records.account_access(name)
        return (Account(access) if access is not None else self._absent), as_of_revision

    def _changed(self, change: Change) -> None:
        if change.kind in _ACCESS_CHANGES:
            self._accounts.drop(change.account)


def _policy_set(records: Iterable[PolicyRecord]) -> tuple[cedarpy.PolicySet, dict[str, str]]:
    """One set of several policies, each statement under an id of ours, and the policy name behind each id."""
    statements: dict[str, Any] = {}
    names: dict[str, str] = {}
    for record in records:
        parsed = json.loads(cedarpy.policies_to_json_str(record.cedar))["staticPolicies"]
        for number, statement in enumerate(parsed.values()):
            statements[f"{record.name}#{number}"] = statement
            names[f"{record.name}#{number}"] = record.name
    text = json.dumps({"staticPolicies": statements, "templates": {}, "templateLinks": []})
    return cedarpy.PolicySet.from_json_str(text), names


def _entities(principal: PrincipalRecord, action: str, resource: Resource) -> str:
    account = _uid("Account", f"accounts/{resource.account}")
    entities = [
        {
            "uid": _principal_uid(principal.name),
            "attrs": {},
            "tags": dict(principal.tags),
            "parents": [_uid("Role", role) for role in principal.roles],
        },
        {
            "uid": _uid("Action", action),
            "attrs": {},
            "parents": [_uid("Action", action.split(":", 1)[0])],
        },
        {
            "uid": _uid(resource.kind, resource.name),
            "attrs": dict(resource.attributes),
            "tags": dict(resource.tags),
            "parents": [account] if resource.kind != "Account" else [],
        },
    ]
    return json.dumps(entities)


def _principal_uid(name: str) -> dict[str, str]:
    return _uid(_PRINCIPAL_TYPES[name.split("/")[2]], name)


def _uid(kind: str, name: str) -> dict[str, str]:
    return {"type": f"Strongroom::{kind}", "id": name}
