"""Who may do what: default deny, from keystore's records, and an event for each decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NoReturn

from services.runtime import encryption_context, event_bounds
from services.runtime.access import decisions, grants
from services.runtime.access.access_records import AccessRecords
from services.runtime.access.cedar import Parsed
from services.runtime.access.decisions import (
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
from services.runtime.access.elsewhere import WITH_POLICIES, Elsewhere, is_elsewhere
from services.runtime.access.grants import Grants
from services.runtime.access.known_accounts import KnownAccounts
from services.runtime.access.session_tokens import account_of
from services.runtime.access.shares import SharedCache
from services.runtime.call import Call, Principal, SessionScope
from services.runtime.changes import Change, ChangeFeed, FreshCache
from services.runtime.clock import Clock, seconds, system_clock
from services.runtime.encryption_context import EncryptionContext
from services.runtime.errors import Reason, StrongroomError
from strongroom.access.v1.access_record_service_pb2 import AccountAccess, PolicyRecord
from strongroom.audit.v1.event_pb2 import Event, Outcome
from strongroom.keystore.v1.key_record_service_pb2 import ChangeKind

__all__ = ["DEFAULT_DENY", "Authorizer", "Decision", "Resource", "account_resource"]

_CACHED_ACCOUNTS = 10_000
_CACHED_RESOURCES = 100_000
_CACHED_DECIDER_BYTES = 256 * 1024 * 1024
# Measured: one whose policies do not read the context, and one that has its entities at hand.
_DECIDER_BYTES, _READING_DECIDER_BYTES = 1_024, 8_192
_CACHED_UNKNOWN = 10_000
# Between two looks for one principal that is not in the records.
_LOOK_AGAIN_SECONDS = 0.5
_ACCESS_CHANGES = (
    ChangeKind.CHANGE_KIND_POLICY,
    ChangeKind.CHANGE_KIND_PRINCIPAL,
    ChangeKind.CHANGE_KIND_ACCOUNT,
    ChangeKind.CHANGE_KIND_QUOTA,
)
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

    def __init__(self, records: AccessRecords, feed: ChangeFeed, clock: Clock = system_clock) -> None:
        self._records = records
        self._feed = feed
        self._clock = clock
        self._parsed = Parsed()
        self._accounts: FreshCache[str, Account | None] = FreshCache(feed, _CACHED_ACCOUNTS)
        self._policies: FreshCache[str, ResourcePolicies] = FreshCache(feed, _CACHED_RESOURCES)
        self._elsewhere = Elsewhere(records)
        self._absent = Account(AccountAccess(), self._parsed)
        self._known = KnownAccounts(self._parsed)
        self._unknown: dict[str, float] = {}
        self._deciders: SharedCache[_DeciderKey, Decider] = SharedCache(_CACHED_DECIDER_BYTES)
        feed.listen(self._changed, self._forget_all)
        self._grants = Grants(records.find_grants, feed, clock)

    def authorize(
        self,
        call: Call,
        action: str,
        resource: Resource,
        context: EncryptionContext = encryption_context.NONE,
        item_count: int = 1,
        told: Mapping[str, str] | None = None,
        grant: str = "",
        *,
        named: str = "",
        serves: bool = False,
    ) -> Event:
        """Returns the event that records the use, once it is permitted.

        `told` is what the action adds to Cedar's context, `grant` a grant that is known to permit it; one that `serves`
        the caller needs no other permission. `named` is what the caller wrote for the resource, where that is not its
        name: a refusal says no more. Raises PERMISSION_DENIED; PRINCIPAL_DISABLED or TOKEN_INVALID when the principal
        or its session may do nothing at all.
        """
        principal = call.principal
        # A service of the mesh has no account: what it does by itself, the resource's account permits.
        account = self._account_of(principal) if principal.account else self.account(resource.account)
        standing = self._standing(principal, account)
        if standing:
            decision, call.refused_whatever = Decision(False, standing), True
        else:
            question = self._question(call, action, resource, context, told or {}, grant, serves)
            decision = self._decided(call, question, account, named)
        if not decision.allowed:
            reason, message = _STANDING_REASONS.get(standing, (Reason.PERMISSION_DENIED, ""))
            raise self._refused(
                call,
                action,
                resource,
                reason,
                decision.decided_by,
                standing=standing,
                written=named,
                message=message,
                context=context,
                item_count=item_count,
            )
        call.permitted = True
        event = call.record(
            action, resource.name, resource.account, encryption_context=context.pairs, item_count=item_count
        )
        event.decided_by = event_bounds.decided_by(decision.decided_by)
        return event

    def _question(
        self,
        call: Call,
        action: str,
        resource: Resource,
        context: EncryptionContext,
        told: Mapping[str, str],
        grant: str,
        serves: bool,
    ) -> Question:
        return Question(
            call.principal,
            action,
            resource,
            context,
            call.source_address,
            call.via_service,
            seconds(self._clock.now_us()),
            told,
            grant,
            serves,
        )

    def refuse(self, call: Call, action: str, resource: Resource) -> NoReturn:
        """Refuses what no policy could permit, as `authorize` refuses what none does."""
        self.require_standing(call.principal)
        raise self._refused(call, action, resource, Reason.PERMISSION_DENIED, DEFAULT_DENY)

    def _refused(
        self,
        call: Call,
        action: str,
        resource: Resource,
        reason: Reason,
        decided_by: str,
        *,
        standing: str = "",
        written: str = "",
        message: str = "",
        context: EncryptionContext = encryption_context.NONE,
        item_count: int = 1,
    ) -> StrongroomError:
        """A refusal, with its event.

        One by another account has two: its own log says what decided, and the caller's the same as if there were
        neither such a resource nor such an account. The answer names what was `written`.
        """
        written = written or resource.name
        own = call.principal.account
        across = bool(own) and resource.account != own
        known = not across or self._account_elsewhere(call, resource.account) is not self._absent
        if across:
            self._elsewhere.conceal_account(call, resource.account)
        event = call.record(
            action,
            resource.name,
            resource.account if known else own,
            encryption_context=context.pairs,
            item_count=item_count,
        )
        event.outcome, event.reason = Outcome.OUTCOME_DENIED, reason
        event.decided_by = event_bounds.decided_by(decided_by) if known else standing or DEFAULT_DENY
        if across and known:
            call.refused_elsewhere[event.id] = (written, standing or DEFAULT_DENY)
        return StrongroomError(
            reason, message or f"{action} on {written} is not permitted", action=action, resource=written
        )

    def require_standing(self, principal: Principal) -> None:
        """Raises PRINCIPAL_DISABLED, TOKEN_INVALID or IDENTITY_UNKNOWN when a principal, or its session, may do nothing
        at all."""
        standing = self._standing(principal, self._account_of(principal))
        if standing:
            reason, message = _STANDING_REASONS.get(standing, (Reason.IDENTITY_UNKNOWN, "there is no such principal"))
            raise StrongroomError(reason, message)

    def admit(self, call: Call, principal: Principal | None = None) -> None:
        """Decides on a call that whoever may do anything at all may make; `principal` where its caller is not known
        yet. Raises as `require_standing`."""
        self.require_standing(principal or call.principal)
        call.permitted = True

    def catch_up(self) -> None:
        """Decides by everything that has changed until now: for what is decided later than its call began."""
        self._feed.poll()

    def principal_resource(self, name: str) -> Resource:
        """What policies see of a user, workload or role as what an action is on, also of one that does not exist."""
        account = account_of(name)
        record = self._account_of(Principal(name, account)).principal(name)
        tags = record.tags if record is not None else {}
        return Resource(decisions.principal_type(name), name, account, tags=dict(tags))

    def parsed_policies(self, records: Sequence[PolicyRecord]) -> ResourcePolicies:
        """Policies of a resource that came with its record, for `Resource.policies`."""
        tenant = account_of(records[0].name) if records else ""
        return decisions.resource_policies(records, self._parsed, tenant) if records else NO_POLICIES

    @property
    def unusable_policies(self) -> Mapping[str, str]:
        """Policies that were met and cannot be evaluated, by name, and why."""
        return self._parsed.unusable

    def require_usable(self) -> None:
        """Raises POLICY_UNUSABLE when there are such. It tells how many: whoever asks for the status may see no names,
        which are in the log and in the accounts' events."""
        if self._parsed.unusable:
            said = f"{len(self._parsed.unusable)} policies cannot be evaluated: they deny"
            raise StrongroomError(Reason.POLICY_UNUSABLE, said)

    def account(self, name: str) -> Account:
        """An account's principals, policies and quotas; one without any where there is no such account."""
        found = self._accounts.get(name, lambda: self._read(name)) if name else None
        return found if found is not None else self._absent

    def _account_elsewhere(self, call: Call, name: str) -> Account:
        found = self._elsewhere.account(call, name, self._accounts, lambda: self._read(name)) if name else None
        return found if found is not None else self._absent

    def _owner(self, call: Call, question: Question) -> Account:
        owner = question.resource.account
        return self._account_elsewhere(call, owner) if is_elsewhere(question) else self.account(owner)

    def _decided(self, call: Call, question: Question, account: Account, named: str) -> Decision:
        try:
            return self._decide(call, question, account)
        except StrongroomError:
            # Nothing is known, as when keystore is away: what was asked for is recorded all the same.
            name, owner = named or question.resource.name, question.principal.account or question.resource.account
            call.record(question.action, name, owner, encryption_context=question.context.pairs)
            raise

    def _decide(self, call: Call, question: Question, account: Account) -> Decision:
        across = question.resource.account != question.principal.account
        if across and self._owner(call, question).disabled:
            call.refused_whatever = True
            self._elsewhere.conceal(call, question)
            return Decision(False, ACCOUNT_DISABLED)
        decider = self._decider(call, question, account)
        outcome, decision = decider.decide(question)
        if question.serves:
            return outcome.served_by(question.grant)
        if not decision.allowed and outcome.grant_may_help:
            grant = question.grant or self._grant(call, question)
            decision = outcome.decision(grant) if grant else decision
        if not decision.allowed:
            call.refused_whatever = not (decider.reads or (outcome.grant_may_help and self._may_be_granted(question)))
        if across and not decision.allowed:
            # It was decided on as something that there is not, and the next time takes as long again.
            self._deciders.drop(question.principal.account, _decider_key(question))
            self._elsewhere.conceal(call, question)
        return decision

    def _grant(self, call: Call, question: Question) -> str:
        resource, context, action = question.resource, question.context, question.action
        if resource.kind != "Key" or not resource.uid or not grants.is_grantable(action):
            return ""
        name = question.principal.name
        if is_elsewhere(question) and not self._grants.knows(resource.uid, name):
            self._elsewhere.asked(call, "grants", resource.name)
        return self._grants.find(resource.uid, resource.name, name, action, context.pairs, context.canonical)

    def _may_be_granted(self, question: Question) -> bool:
        """Whether some grant could permit it under another encryption context."""
        resource = question.resource
        if resource.kind != "Key" or not resource.uid or not grants.is_grantable(question.action):
            return False
        return self._grants.may_permit(resource.uid, question.principal.name, question.action)

    def _decider(self, call: Call, question: Question, account: Account) -> Decider:
        principal, resource = question.principal, question.resource
        key = _decider_key(question)
        if call.last_decision is not None and call.last_decision[0] == (key, account):
            known: Decider = call.last_decision[1]
            return known
        policies = self._policies_of(call, question)
        decider = self._deciders.get(principal.account, key)
        if decider is None or decider.basis[0] is not account or decider.basis[1] is not policies:
            session = [self._session_policy(principal.account, text) for text in principal.scope.policies]
            decider = Decider(question, account, policies, session)
            # For the other items of a batch.
            call.last_decision = (key, account), decider
            if resource.is_worth_keeping:
                size = _READING_DECIDER_BYTES if decider.reads else _DECIDER_BYTES
                self._deciders.put(principal.account, key, decider, size)
                if decider.reads:
                    # One that reads nothing has one outcome for good, and there is one for each key in use.
                    decider.grown = partial(self._deciders.grow, principal.account, key)
        return decider

    def _policies_of(self, call: Call, question: Question) -> ResourcePolicies:
        resource = question.resource
        if resource.policies is not None:
            return resource.policies
        # What does not exist has none, and is refused no later than what does.
        if resource.kind not in WITH_POLICIES or not resource.is_worth_keeping:
            return NO_POLICIES
        policies, asked = self._policies.look(resource.name, lambda: self._read_policies(resource.name))
        if asked and is_elsewhere(question):
            self._elsewhere.asked(call, "policies", resource.name)
        return policies

    def _read_policies(self, name: str) -> tuple[ResourcePolicies, int]:
        records, as_of_revision = self._records.resource_policies(name)
        return self.parsed_policies(records), as_of_revision

    def _session_policy(self, tenant: str, text: str) -> ResourcePolicies:
        return decisions.resource_policies(
            [PolicyRecord(name=decisions.SESSION_POLICY, cedar=text)], self._parsed, tenant
        )

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
        now = seconds(self._clock.now_us())
        if now < self._unknown.get(name, 0.0):
            return False
        if len(self._unknown) >= _CACHED_UNKNOWN:
            self._unknown.clear()
        self._unknown[name] = now + _LOOK_AGAIN_SECONDS
        return True

    def _read(self, name: str) -> tuple[Account | None, int]:
        # That there is none is not kept: there are too many names of what does not exist.
        access, as_of_revision = self._records.account_access(name)
        return (self._known.as_read(access) if access is not None else None), as_of_revision

    def _changed(self, change: Change) -> None:
        if change.kind in _ACCESS_CHANGES:
            self._accounts.drop(change.account)
            self._known.forget(change.account)
            # Where it still applies it is met again.
            self._parsed.unusable.pop(change.resource, None)
        if change.kind in (ChangeKind.CHANGE_KIND_POLICY, ChangeKind.CHANGE_KIND_KEY):
            # A policy of a key is a change of the key, one of a secret names the secret.
            self._policies.drop(change.resource)

    def _forget_all(self) -> None:
        self._accounts.clear()
        self._policies.clear()


def _decider_key(question: Question) -> _DeciderKey:
    principal, resource = question.principal, question.resource
    return principal.name, principal.scope, question.action, resource.name, resource.revision
