"""What would be decided on a call, and why, without making it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Engine

from services.keystore.access.records import grant_store, store
from services.keystore.store import changes
from services.keystore.store import store as key_store
from services.runtime.access import decisions
from services.runtime.access.authorization import Authorizer, account_resource
from services.runtime.access.cedar import Parsed, Verdict
from services.runtime.access.decisions import (
    ACCOUNT_DISABLED,
    Account,
    Decider,
    Decision,
    Outcome,
    Question,
    Resource,
    ResourcePolicies,
)
from services.runtime.access.grants import is_grantable
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import parse
from services.runtime.storage.database import reading
from strongroom.access.v1.access_record_service_pb2 import AccountAccess, PolicyRecord
from strongroom.access.v1.policy_pb2 import POLICY_KIND_RESOURCE, PolicyKind

ACTION = "access:SimulateAccess"


@dataclass(frozen=True, slots=True)
class Draft:
    """A policy as if it were written already."""

    name: str
    account: str
    kind: PolicyKind.ValueType
    cedar: str
    attached_to: tuple[str, ...]

    @property
    def record(self) -> PolicyRecord:
        """The record of the policy that the services would use."""
        everybody = f"accounts/{self.account}" in self.attached_to
        return PolicyRecord(
            name=self.name, cedar=self.cedar, kind=self.kind, attached_to=() if everybody else self.attached_to
        )


@dataclass(frozen=True, slots=True)
class Simulated:
    """A decision, and what of it the caller may see."""

    decision: Decision
    outcome: Outcome
    grant: str
    """The grant that permits; empty without one."""
    principal_account: str
    resource_account: str
    seen_accounts: frozenset[str]
    """Whose determinants the caller may see."""
    as_of_revision: int

    @property
    def denying_accounts(self) -> list[str]:
        """For a decision across accounts: which sides did not permit it."""
        if self.principal_account == self.resource_account:
            return []
        sides = {
            self.principal_account: bool(self.outcome.identity.permits) and not self.outcome.identity.forbids,
            self.resource_account: bool(self.outcome.resource.permits or self.grant)
            and not self.outcome.resource.forbids,
        }
        return [account for account, permitted in sides.items() if account and not permitted]


class Simulation:
    """Decides as the services do, on records as they are now and on drafts."""

    def __init__(self, engine: Engine, authorizer: Authorizer, operator: str, clock: Clock) -> None:
        self.operator = operator
        """The id of the account that the mesh as a whole belongs to."""
        self._engine = engine
        self._authorizer = authorizer
        self._clock = clock
        self._parsed = Parsed()

    def simulate(
        self,
        call: Call,
        question: Question,
        tags: Mapping[str, str] | None,
        drafts: Sequence[Draft],
    ) -> Simulated:
        """The decision on a question, whose resource would have these tags where they are given.

        Needs the action on the principal's account and on the resource's; with one of them only that side is shown, and
        of the other it is not told what there is: its principals are taken to be permitted, and its resources not to be
        there unless it permits the call.
        """
        principal_account, resource_account = question.principal.account, question.resource.account
        seen = self._seen(call, [principal_account, resource_account])
        for draft in drafts:
            if draft.account not in seen:
                self._authorizer.authorize(call, ACTION, account_resource(draft.account))
        with reading(self._engine) as connection:
            # What a service of the mesh does by itself, the resource's account permits.
            known = not principal_account or principal_account in seen
            account = (
                self._account(connection, principal_account or resource_account, drafts)
                if known
                else Account(AccountAccess(account=principal_account), self._parsed)
            )
            owner = (
                account if resource_account == principal_account else self._account(connection, resource_account, [])
            )
            named = question.resource
            resource = _resource(connection, named, tags)
            policies = self._policies(connection, resource, drafts)
            question = replace(question, resource=resource, time=question.time or self._clock.now_us() / 1e6)
            outcome, decision = self._decided(question, account, owner, policies, known=known)
            may_help = outcome.grant_may_help and not decision.allowed
            grant = self._grant(connection, question, known=known) if may_help else ""
            revision = changes.current(connection)
        if grant:
            decision = outcome.decision(grant)
        if resource_account not in seen and not (outcome.resource.permits or grant):
            bare = replace(question, resource=replace(named, tags=tags or {}))
            owner = Account(AccountAccess(account=resource_account), self._parsed)
            outcome, decision = self._decided(bare, account, owner, decisions.NO_POLICIES)
        return Simulated(decision, outcome, grant, principal_account, resource_account, seen, revision)

    def require_standing(self, call: Call) -> None:
        """For what every principal may ask. Raises PRINCIPAL_DISABLED, TOKEN_INVALID, IDENTITY_UNKNOWN."""
        self._authorizer.admit(call)

    def _seen(self, call: Call, accounts: Sequence[str]) -> frozenset[str]:
        """Those of the accounts where the caller may simulate. Raises PERMISSION_DENIED when it is none."""
        seen, refusals = set(), []
        for account in dict.fromkeys(filter(None, accounts)):
            try:
                self._authorizer.authorize(call, ACTION, account_resource(account))
                seen.add(account)
            except StrongroomError as refusal:
                if refusal.reason is not Reason.PERMISSION_DENIED:
                    raise
                refusals.append(refusal)
        if not seen and refusals:
            raise refusals[0].renewed()
        return frozenset(seen)

    def _account(self, connection: Connection, name: str, drafts: Sequence[Draft]) -> Account:
        access = store.account_access(connection, name, self._clock.now_us()) if name else None
        access = access or AccountAccess(account=name)
        own = [draft for draft in drafts if draft.account == name and draft.kind != POLICY_KIND_RESOURCE]
        replaced = {draft.name for draft in own}
        kept = [policy for policy in access.policies if policy.name not in replaced]
        del access.policies[:]
        # A draft that is attached to nothing does nothing.
        access.policies.extend([*kept, *(draft.record for draft in own if draft.attached_to)])
        return Account(access, self._parsed)

    def _policies(self, connection: Connection, resource: Resource, drafts: Sequence[Draft]) -> ResourcePolicies:
        own = [draft for draft in drafts if draft.kind == POLICY_KIND_RESOURCE]
        replaced = {draft.name for draft in own}
        records = [
            record for record in store.resource_policies(connection, resource.name) if record.name not in replaced
        ]
        records += [draft.record for draft in own if resource.name in draft.attached_to]
        return decisions.resource_policies(records, self._parsed)

    def _decided(
        self, question: Question, account: Account, owner: Account, policies: ResourcePolicies, *, known: bool = True
    ) -> tuple[Outcome, Decision]:
        session = [
            decisions.resource_policies([PolicyRecord(name=decisions.SESSION_POLICY, cedar=text)], self._parsed)
            for text in question.principal.scope.policies
        ]
        outcome, decision = Decider(question, account, policies, session).decide(question)
        standing = ""
        if not known:
            outcome = replace(outcome, identity=Verdict(permits=(f"accounts/{question.principal.account}",)))
            decision = outcome.decision()
        elif question.principal.account:
            standing = account.standing(question.principal.name, question.principal)
        if standing or owner.disabled:
            refused = Outcome(Verdict(), Verdict(), within_session=False, both_sides=outcome.both_sides)
            return refused, Decision(False, standing or ACCOUNT_DISABLED)
        return outcome, decision

    def _grant(self, connection: Connection, question: Question, *, known: bool) -> str:
        resource, principal = question.resource, question.principal
        if resource.kind != "Key" or not is_grantable(question.action):
            return ""
        # Which roles a principal of another account holds is not told.
        grantees = store.grantees(connection, principal.name) if known else [principal.name]
        now_us = int(question.time * 1e6)
        pairs = question.context.pairs
        # Of a key that there is not, too: it takes as long.
        uid = resource.uid or key_store.NO_UID
        found = grant_store.permitting(connection, uid, grantees, question.action, pairs, 1, now_us)
        return str(found[0].name) if found else ""


def _resource(connection: Connection, resource: Resource, tags: Mapping[str, str] | None) -> Resource:
    """What there is of this name; with these tags in place of its own where they are given."""
    if resource.kind == "Key":
        key = key_store.key(connection, parse(resource.name, "resource", "keys"))
        resource = key.resource if key is not None else resource
    return replace(resource, tags=tags) if tags is not None else resource
