"""Who may do what: default deny, from keystore's records, and an event for each decision."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from services.runtime import decisions, encryption_context, event_bounds, grants
from services.runtime.access_records import AccessRecords
from services.runtime.call import Call, Principal, SessionScope
from services.runtime.cedar import Parsed
from services.runtime.changes import ChangeFeed, FreshCache
from services.runtime.decisions import (
    ACCOUNT_DISABLED,
    DEFAULT_DENY,
    NO_POLICIES,
    PRINCIPAL_DISABLED,
    PRINCIPAL_UNKNOWN,
    SESSION_ENDED,
    Account,
    Decider,
    Decision,
    Question,
    Resource,
    ResourcePolicies,
)
from services.runtime.encryption_context import EncryptionContext
from services.runtime.errors import Reason, StrongroomError
from services.runtime.grants import Grants
from services.runtime.session_tokens import account_of
from strongroom.access.v1.access_record_service_pb2 import AccountAccess, PolicyRecord
from strongroom.audit.v1.event_pb2 import Event, Outcome
from strongroom.keystore.v1.key_record_service_pb2 import Change, ChangeKind

__all__ = ["DEFAULT_DENY", "Authorizer", "Decision", "Resource", "account_resource"]

_CACHED_ACCOUNTS = 10_000
_CACHED_RESOURCES = 100_000
_CACHED_DECIDERS = 100_000
_CACHED_SESSION_POLICIES = 10_000
_CACHED_UNKNOWN = 10_000
# Between two looks for one principal that is not in the records.
_LOOK_AGAIN_SECONDS = 0.5
_ACCESS_CHANGES = (
    ChangeKind.CHANGE_KIND_POLICY,
    ChangeKind.CHANGE_KIND_PRINCIPAL,
    ChangeKind.CHANGE_KIND_ACCOUNT,
    ChangeKind.CHANGE_KIND_QUOTA,
)
# What policies can be attached to.
_WITH_POLICIES = ("Key", "Secret")
_STANDING_REASONS = {
    ACCOUNT_DISABLED: (Reason.PRINCIPAL_DISABLED, "the account is disabled"),
    PRINCIPAL_DISABLED: (Reason.PRINCIPAL_DISABLED, "the principal is disabled"),
    SESSION_ENDED: (Reason.TOKEN_INVALID, "the session was ended"),
}

_DeciderKey = tuple[str, SessionScope, str, str, int]


def account_resource(account: str) -> Resource:
    """The account itself, for what is done to no single resource of it."""
    return Resource("Account", f"accounts/{account}", account)


class Authorizer:
    """Decides for one service process, from keystore's access records."""

    def __init__(self, records: AccessRecords, feed: ChangeFeed, wall_clock: Callable[[], float] = time.time) -> None:
        self._records = records
        self._wall_clock = wall_clock
        self._parsed = Parsed()
        self._accounts: FreshCache[str, Account] = FreshCache(feed, _CACHED_ACCOUNTS)
        self._policies: FreshCache[str, ResourcePolicies] = FreshCache(feed, _CACHED_RESOURCES)
        self._absent = Account(AccountAccess(), self._parsed)
        self._session_policies: dict[str, ResourcePolicies] = {}
        self._unknown: dict[str, float] = {}
        self._deciders: dict[_DeciderKey, Decider] = {}
        feed.listen(self._changed, self._forget_all)
        self._grants = Grants(records.find_grants, feed, wall_clock)

    def authorize(
        self,
        call: Call,
        action: str,
        resource: Resource,
        context: EncryptionContext = encryption_context.NONE,
        item_count: int = 1,
        told: Mapping[str, str] | None = None,
        grant: str = "",
    ) -> Event:
        """Returns the event that records the use, once it is permitted.

        `told` is what the action adds to Cedar's context, `grant` a grant that is known to permit it. Raises
        PERMISSION_DENIED; PRINCIPAL_DISABLED or TOKEN_INVALID when the principal or its session may do nothing at all.
        """
        principal = call.principal
        owned = resource.account == principal.account or self.account(resource.account) is not self._absent
        event = call.record(
            action,
            resource.name,
            resource.account if owned else principal.account,
            encryption_context=context.pairs,
            item_count=item_count,
        )
        # A service of the mesh has no account: what it does by itself, the resource's account permits.
        account = self._account_of(principal) if principal.account else self.account(resource.account)
        event.decided_by = self._standing(principal, account)
        if event.decided_by:
            raise self._refused(event, *_STANDING_REASONS.get(event.decided_by, (Reason.PERMISSION_DENIED, "")))
        question = Question(
            principal,
            action,
            resource,
            context,
            call.source_address,
            call.via_service,
            self._wall_clock(),
            told or {},
            grant,
        )
        decision = self._decide(question, account)
        event.decided_by = event_bounds.decided_by(decision.decided_by)
        if not decision.allowed:
            raise self._refused(event, Reason.PERMISSION_DENIED)
        return event

    def require_standing(self, principal: Principal) -> None:
        """Raises PRINCIPAL_DISABLED, TOKEN_INVALID or IDENTITY_UNKNOWN when a principal, or its session, may do nothing
        at all: for what everybody else may do."""
        standing = self._standing(principal, self._account_of(principal))
        if standing:
            reason, message = _STANDING_REASONS.get(standing, (Reason.IDENTITY_UNKNOWN, "there is no such principal"))
            raise StrongroomError(reason, message)

    def principal_resource(self, name: str) -> Resource:
        """What policies see of a user, workload or role as what an action is on, also of one that does not exist."""
        account = account_of(name)
        record = self._account_of(Principal(name, account)).principal(name)
        tags = record.tags if record is not None else {}
        return Resource(decisions.principal_type(name), name, account, tags=dict(tags))

    def parsed_policies(self, records: Sequence[PolicyRecord]) -> ResourcePolicies:
        """Policies of a resource that came with its record, for `Resource.policies`."""
        return decisions.resource_policies(records, self._parsed) if records else NO_POLICIES

    def account(self, name: str) -> Account:
        """An account's principals, policies and quotas; one without any where there is no such account."""
        return self._accounts.get(name, lambda: self._read(name)) if name else self._absent

    def _decide(self, question: Question, account: Account) -> Decision:
        owner = question.resource.account
        if owner != question.principal.account and self.account(owner).disabled:
            return Decision(False, ACCOUNT_DISABLED)
        outcome, decision = self._decider(question, account).decide(question)
        if decision.allowed or not outcome.grant_may_help:
            return decision
        grant = question.grant or self._grant(question)
        return outcome.decision(grant) if grant else decision

    def _grant(self, question: Question) -> str:
        resource, context, action = question.resource, question.context, question.action
        if resource.kind != "Key" or not resource.uid or not grants.is_grantable(action):
            return ""
        name = question.principal.name
        return self._grants.find(resource.uid, resource.name, name, action, context.pairs, context.canonical)

    def _decider(self, question: Question, account: Account) -> Decider:
        principal, resource = question.principal, question.resource
        policies = self._policies_of(resource)
        key = (principal.name, principal.scope, question.action, resource.name, resource.revision)
        decider = self._deciders.get(key)
        if decider is None or decider.basis[0] is not account or decider.basis[1] is not policies:
            session = [self._session_policy(text) for text in principal.scope.policies]
            decider = Decider(question, account, policies, session)
            if len(self._deciders) >= _CACHED_DECIDERS:
                self._deciders.clear()
            self._deciders[key] = decider
        return decider

    def _policies_of(self, resource: Resource) -> ResourcePolicies:
        if resource.policies is not None:
            return resource.policies
        if resource.kind not in _WITH_POLICIES:
            return NO_POLICIES
        return self._policies.get(resource.name, lambda: self._read_policies(resource.name))

    def _read_policies(self, name: str) -> tuple[ResourcePolicies, int]:
        records, as_of_revision = self._records.resource_policies(name)
        return self.parsed_policies(records), as_of_revision

    def _session_policy(self, text: str) -> ResourcePolicies:
        found = self._session_policies.get(text)
        if found is None:
            if len(self._session_policies) >= _CACHED_SESSION_POLICIES:
                self._session_policies.clear()
            record = PolicyRecord(name=decisions.SESSION_POLICY, cedar=text)
            found = self._session_policies[text] = self.parsed_policies([record])
        return found

    def _standing(self, principal: Principal, account: Account) -> str:
        """Why the principal, or anybody who assumed it as a role, may do nothing at all."""
        if not principal.account:
            # Services of the mesh belong to no account.
            return "" if principal.name else PRINCIPAL_UNKNOWN
        standing = account.standing(principal.name, principal)
        for name in principal.scope.assumed_by:
            standing = standing or self.account(account_of(name)).standing(name, principal)
        return standing

    def _account_of(self, principal: Principal) -> Account:
        """The principal's account, read again where it does not know the principal."""
        account = self.account(principal.account)
        if principal.account and account.principal(principal.name) is None and self._may_be_new(principal.name):
            self._accounts.drop(principal.account)
            account = self.account(principal.account)
        return account

    def _may_be_new(self, name: str) -> bool:
        """Whether a principal may have been created since its account was read, and nobody has looked lately."""
        now = self._wall_clock()
        if now < self._unknown.get(name, 0.0):
            return False
        if len(self._unknown) >= _CACHED_UNKNOWN:
            self._unknown.clear()
        self._unknown[name] = now + _LOOK_AGAIN_SECONDS
        return True

    def _read(self, name: str) -> tuple[Account, int]:
        access, as_of_revision = self._records.account_access(name)
        return (Account(access, self._parsed) if access is not None else self._absent), as_of_revision

    def _refused(self, event: Event, reason: Reason, message: str = "") -> StrongroomError:
        event.outcome = Outcome.OUTCOME_DENIED
        event.reason = reason
        return StrongroomError(
            reason,
            message or f"{event.action} on {event.resource} is not permitted",
            action=event.action,
            resource=event.resource,
        )

    def _changed(self, change: Change) -> None:
        if change.kind in _ACCESS_CHANGES:
            self._accounts.drop(change.account)
        if change.kind in (ChangeKind.CHANGE_KIND_POLICY, ChangeKind.CHANGE_KIND_KEY):
            # A policy of a key is a change of the key, one of a secret names the secret.
            self._policies.drop(change.resource)

    def _forget_all(self) -> None:
        self._accounts.clear()
        self._policies.clear()
