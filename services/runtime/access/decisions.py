"""What policies make of a question, and how the sides of a decision come together.

Within one account a permit of either side suffices, across accounts both sides must permit: the principal's account by
its identity policies, the resource's by a policy of the resource or by a grant. A forbid wins over everything, and a
session permits nothing that its own policies do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from services.runtime import clock, encryption_context
from services.runtime.access import cedar_text
from services.runtime.access.cedar import (
    EVERYTHING,
    NOTHING,
    Evaluator,
    Json,
    Parsed,
    Statement,
    StatementIndex,
    Verdict,
    uid,
)
from services.runtime.addresses import ip_of
from services.runtime.call import Principal
from services.runtime.encryption_context import EncryptionContext
from strongroom.access.v1.access_record_service_pb2 import AccountAccess, PolicyRecord, PrincipalRecord

DEFAULT_DENY = "default-deny"
SESSION_POLICY = "session-policy"
PRINCIPAL_UNKNOWN = "principal-unknown"
PRINCIPAL_DISABLED = "principal-disabled"
ACCOUNT_DISABLED = "account-disabled"
SESSION_ENDED = "session-ended"

ASSUME_ROLE = "access:AssumeRole"

# Measured, beside the context.
_OUTCOME_BYTES = 768
_NOTHING_READ: frozenset[str] = frozenset()
_NO_SESSIONS: frozenset[str] = frozenset()
_PRINCIPAL_TYPES = {"users": "User", "workloads": "Workload", "roles": "Role"}


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether an action is permitted, and what decided: policies and grants by name, or why none did."""

    allowed: bool
    decided_by: str


class ResourcePolicies:
    """The policies that are attached to one resource, or that a session stays within."""

    def __init__(self, index: StatementIndex | None = None) -> None:
        self.index = index or StatementIndex(())


NO_POLICIES = ResourcePolicies()


# Each account has one of them.
_WITHOUT_REVISION = ("Account", "Log", "Service")


@dataclass(frozen=True, slots=True)
class Resource:
    """What an action is on. `kind` is the Cedar entity type: Key, Alias, Secret, Log, Account and others."""

    kind: str
    name: str
    account: str
    revision: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    uid: bytes = b""
    """A key's."""
    policies: ResourcePolicies | None = None
    """Those attached to it; None where keystore has to be asked."""

    @property
    def is_worth_keeping(self) -> bool:
        """Whether what was decided on it may be asked again. There are more names of what does not exist than any cache
        has room for."""
        return bool(self.revision) or self.kind in _WITHOUT_REVISION


@dataclass(frozen=True, slots=True)
class Question:
    """May this principal do this to that, in these circumstances?"""

    principal: Principal
    action: str
    resource: Resource
    context: EncryptionContext = encryption_context.NONE
    source_address: str = ""
    via_service: str = ""
    time: float = 0.0
    """In seconds since the Unix epoch."""
    told: Mapping[str, str] = field(default_factory=dict)
    """What the action adds to Cedar's context, such as `external_id`."""
    grant: str = ""
    """A grant that is known to permit it."""
    serves: bool = False
    """Whether that grant suffices on both sides: what it is asked for is the caller's own, as ending it is."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the policies of both sides make of a question, before grants."""

    identity: Verdict
    """Of the principal's account."""
    resource: Verdict
    """Of the resource's."""
    within_session: bool
    both_sides: bool
    """Whether both must permit."""

    @property
    def grant_may_help(self) -> bool:
        """Whether a grant could turn a refusal into a permission."""
        if self.identity.forbids or self.resource.forbids or not self.within_session or self.resource.permits:
            return False
        return bool(self.identity.permits) if self.both_sides else not self.identity.permits

    def decision(self, grant: str = "") -> Decision:
        """The decision, with the grant that permits, if there is one."""
        forbids = self.identity.forbids + self.resource.forbids
        if forbids:
            return Decision(False, _joined(forbids))
        owner = (*self.resource.permits, grant) if grant else self.resource.permits
        sides = (self.identity.permits, owner)
        if not (all(sides) if self.both_sides else any(sides)):
            return Decision(False, _joined((DEFAULT_DENY, *self.identity.unusable, *self.resource.unusable)))
        if not self.within_session:
            return Decision(False, SESSION_POLICY)
        return Decision(True, _joined(self.identity.permits + owner))

    def served_by(self, grant: str) -> Decision:
        """The decision on what a grant lets whom it serves do with itself: nothing else need permit it."""
        forbids = self.identity.forbids + self.resource.forbids
        if forbids:
            return Decision(False, _joined(forbids))
        return Decision(True, grant) if self.within_session else Decision(False, SESSION_POLICY)


class Account:
    """An account's principals and identity policies at one revision."""

    def __init__(self, access: AccountAccess, parsed: Parsed, digest: bytes = b"") -> None:
        """`digest` is that of the record, by which the same one is known again."""
        self.digest = digest
        self.name = access.account
        self.disabled = access.disabled
        self._principals = {principal.name: principal for principal in access.principals}
        self._valid_after_us = {
            principal.name: clock.microseconds(principal.sessions_valid_after)
            for principal in access.principals
            if principal.HasField("sessions_valid_after")
        }
        self._ended_sessions = {
            principal.name: frozenset(principal.ended_sessions)
            for principal in access.principals
            if principal.ended_sessions
        }
        self.quotas = {quota.target: quota for quota in access.quotas}
        """The account's quota, and its principals' own, by whom they limit."""
        self._ended_credentials = frozenset((*access.ended_client_keys, *access.ended_oidc_providers))
        statements: dict[str, list[Statement]] = {}
        for policy in access.policies:
            for target in policy.attached_to or ("",):
                statements.setdefault(target, []).extend(parsed.statements(policy))
        self._indexes = {target: parsed.index(self.name, attached) for target, attached in statements.items()}
        self._outcomes: dict[Outcome, tuple[Outcome, Decision]] = {}

    def principal(self, name: str) -> PrincipalRecord | None:
        """The record of a principal of this account."""
        return self._principals.get(name)

    @property
    def principals(self) -> Iterable[PrincipalRecord]:
        """Every principal of this account."""
        return self._principals.values()

    def standing(self, name: str, principal: Principal) -> str:
        """Why a principal of this account, or one that stands behind its session, may do nothing at all; empty when it
        may act."""
        if self.disabled:
            return ACCOUNT_DISABLED
        record = self._principals.get(name)
        if record is None:
            return PRINCIPAL_UNKNOWN
        if record.disabled:
            return PRINCIPAL_DISABLED
        valid_after_us = self._valid_after_us.get(name)
        if principal.issued and (
            (valid_after_us is not None and principal.as_of_us(name) < valid_after_us)
            or principal.credential.partition("#")[0] in self._ended_credentials
            or not self._ended_sessions.get(name, _NO_SESSIONS).isdisjoint(principal.session_ids)
        ):
            return SESSION_ENDED
        return ""

    def shared(self, outcome: Outcome) -> tuple[Outcome, Decision]:
        """An outcome with what it comes to without a grant, the same object for equal ones."""
        known = self._outcomes.get(outcome)
        return self._outcomes.setdefault(outcome, (outcome, outcome.decision())) if known is None else known

    def indexes(self, record: PrincipalRecord) -> list[StatementIndex]:
        """The identity policies that apply to a principal: the account's, its own, and its roles'."""
        targets = dict.fromkeys(("", record.name, *record.roles))
        return [self._indexes[target] for target in targets if target in self._indexes]

    def highest_cost(self, record: PrincipalRecord) -> int:
        """What a principal's identity policies cost at most for one action on one resource, in the units of
        `cedar_cost`."""
        return sum(index.highest_cost for index in self.indexes(record))


class Decider:
    """Decides on one principal, action and resource, again and again in other circumstances.

    An outcome is remembered under exactly those attributes of the context that some policy reads.
    """

    __slots__ = (
        "_always",
        "_both_sides",
        "_identity",
        "_outcomes",
        "_resource",
        "_sessions",
        "basis",
        "grown",
        "reads",
    )

    _CAPACITY = 10_000

    def __init__(
        self, question: Question, account: Account, policies: ResourcePolicies, session: Sequence[ResourcePolicies]
    ) -> None:
        principal, action, resource = question.principal, question.action, question.resource
        self.basis = (account, policies)
        """The records that it rests on."""
        self.grown: Callable[[int], None] = _nobody_is_told
        """Told how many bytes each outcome takes that it remembers."""
        # A service of the mesh has no side of its own.
        across = bool(principal.account) and resource.account != principal.account
        self._both_sides = across or action == ASSUME_ROLE
        record = account.principal(principal.name) or PrincipalRecord(name=principal.name)
        request = {
            "principal": principal_uid(principal.name),
            "action": uid("Action", action),
            "resource": uid(resource.kind, resource.name),
        }
        entities = _entities(request, record, principal.account, action, resource)

        def evaluator(indexes: Iterable[StatementIndex]) -> Evaluator | None:
            pieces = [piece for index in indexes for piece in index.pieces(action, resource.name)]
            return Evaluator((), request, entities, pieces) if pieces else None

        self._identity = evaluator(account.indexes(record))
        self._resource = evaluator([policies.index])
        self._sessions: Sequence[Evaluator | None] = [evaluator([one.index]) for one in session]
        reads = (one.reads for one in (self._identity, self._resource, *self._sessions) if one is not None)
        self.reads = frozenset[str]().union(*reads) or _NOTHING_READ
        """Attributes of the context that an outcome depends on."""
        self._outcomes: dict[tuple[object, ...], tuple[Outcome, Decision]]
        self._always: tuple[Outcome, Decision] | None = None
        if self.reads:
            self._outcomes = {}
        else:
            # The same in all circumstances, and for most keys the same as for others: it is kept once, without what it
            # was made from. A worker has one of these for each key in use.
            self._always = account.shared(self._outcome(question))
            self._identity = self._resource = None
            self._sessions = ()

    def decide(self, question: Question) -> tuple[Outcome, Decision]:
        """What policies make of the question, and what that comes to without a grant."""
        if self._always is not None:
            return self._always
        key = self._circumstances(question)
        known = self._outcomes.get(key)
        if known is None:
            if len(self._outcomes) >= self._CAPACITY:
                self._outcomes.clear()
            outcome = self._outcome(question)
            known = self._outcomes[key] = (outcome, outcome.decision())
            self.grown(_OUTCOME_BYTES + len(question.context.canonical))
        return known

    def _circumstances(self, question: Question) -> tuple[object, ...]:
        reads = self.reads
        everything = EVERYTHING in reads
        return (
            question.context.canonical if everything or "encryption_context" in reads else None,
            question.source_address if everything or "source_address" in reads else None,
            int(question.time) if everything or "time" in reads else None,
            question.via_service,
            # The session's tags are the principal's, for whom alone this decides.
            tuple(sorted(question.told.items())),
        )

    def _outcome(self, question: Question) -> Outcome:
        context, pairs = _context(question), question.context.pairs.items()

        def verdict(evaluator: Evaluator | None) -> Verdict:
            return evaluator.verdict(context, pairs) if evaluator is not None else NOTHING

        sessions = [verdict(evaluator) for evaluator in self._sessions]
        return Outcome(
            verdict(self._identity),
            verdict(self._resource),
            all(one.permits and not one.forbids for one in sessions),
            self._both_sides,
        )


def _nobody_is_told(_size: int) -> None:
    pass


def principal_uid(name: str) -> Json:
    """A principal as an entity of the schema."""
    return uid(principal_type(name), name)


def principal_type(name: str) -> str:
    """What kind of entity a principal is."""
    parts = name.split("/")
    return _PRINCIPAL_TYPES.get(parts[2], "Service") if len(parts) > 2 else "Service"


def resource_policies(records: Iterable[PolicyRecord], parsed: Parsed, tenant: str = "") -> ResourcePolicies:
    """Policies of a resource of a tenant, or of its session, ready to decide with."""
    statements = [statement for record in records for statement in parsed.statements(record)]
    return ResourcePolicies(parsed.index(tenant, statements)) if statements else NO_POLICIES


def _joined(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))


def _context(question: Question) -> Json:
    """Cedar's context, as the schema has it."""
    context: Json = {
        "encryption_context": _pairs(question.context.pairs.items()),
        "session_tags": _pairs(question.principal.scope.tags),
        "time": _extension("datetime", cedar_text.datetime_text(question.time)),
        "via_service": question.via_service,
        **question.told,
    }
    # Absent where it is not known, as for a call by a local socket.
    address = ip_of(question.source_address)
    if address is not None:
        context["source_address"] = _extension("ip", str(address))
    return context


def _pairs(pairs: Iterable[tuple[str, str]]) -> list[Json]:
    return [{"key": key, "value": value} for key, value in pairs]


def _extension(function: str, argument: str) -> Json:
    return {"__extn": {"fn": function, "arg": argument}}


def _entities(
    request: Json, record: PrincipalRecord, principal_account: str, action: str, resource: Resource
) -> list[Json]:
    principal_parents = [uid("Role", role) for role in record.roles]
    if principal_account:
        principal_parents.append(_account_uid(principal_account))
    itself = {"uid": request["principal"], "attrs": {}, "tags": dict(record.tags), "parents": principal_parents}
    action_entity = {"uid": request["action"], "attrs": {}, "parents": [uid("Action", action.partition(":")[0])]}
    if request["resource"] == request["principal"]:  # Cedar takes no entity twice
        return [itself, action_entity]
    return [
        itself,
        action_entity,
        {
            "uid": request["resource"],
            "attrs": dict(resource.attributes),
            "tags": dict(resource.tags),
            "parents": [_account_uid(resource.account)] if resource.account and resource.kind != "Account" else [],
        },
    ]


def _account_uid(account: str) -> Json:
    return uid("Account", f"accounts/{account}")
