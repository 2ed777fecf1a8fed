"""Handlers of what would be decided, and of the schema that policies are written against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from services.keystore.access.policies import policies, policy_text
from services.keystore.access.policies.simulation import Draft, Simulated, Simulation
from services.keystore.access.records.resources import account_of, resource
from services.runtime import clock, encryption_context
from services.runtime.access.authorization import Resource
from services.runtime.access.cedar import Verdict
from services.runtime.access.decisions import Question
from services.runtime.addresses import ip_of, plain_address
from services.runtime.call import Call, Principal, SessionScope
from services.runtime.errors import invalid, required, too_large
from services.runtime.requests import names
from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1.policy_pb2 import (
    EFFECT_FORBID,
    EFFECT_PERMIT,
    POLICY_KIND_IDENTITY,
    POLICY_KIND_RESOURCE,
    Determinant,
    Effect,
    Policy,
)

_MAX_DRAFTS = 10
_PRINCIPALS = ("users", "workloads", "roles")
_COLLECTIONS = (
    *_PRINCIPALS,
    "keys",
    "aliases",
    "secrets",
    "policies",
    "grants",
    "clientKeys",
    "oidcProviders",
)
_SERVICE = "services/"


class SimulationHandlers:
    """The methods of AccessService about what explains decisions: simulation and the schema."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def SimulateAccess(self, request: pb.SimulateAccessRequest, call: Call) -> pb.SimulateAccessResponse:
        """What would be decided on a call, and why."""
        question = self._question(request)
        tags = dict(request.resource_tags) or None
        drafts = [_draft(policy) for policy in _checked_drafts(request.draft_policies)]
        return _response(self._simulation.simulate(call, question, tags, drafts))

    def GetSchema(self, request: pb.GetSchemaRequest, call: Call) -> pb.GetSchemaResponse:
        """The schema that policies are checked against."""
        del request
        self._simulation.require_standing(call)
        schema = policy_text.schema()
        return pb.GetSchemaResponse(cedar_schema=schema.cedar, json_schema=schema.json, schema_sha256=schema.digest)

    def _question(self, request: pb.SimulateAccessRequest) -> Question:
        if not request.action:
            raise required("action")
        if request.action not in policy_text.schema().actions:
            raise invalid("action", "is not an action of the schema")
        if request.via_service and not request.via_service.startswith(_SERVICE):
            raise invalid("via_service", "is not of the form services/{service}")
        if request.source_address and ip_of(request.source_address) is None:
            raise invalid("source_address", "is not an IP address")
        return Question(
            _principal(request),
            request.action,
            self._resource(request.resource),
            encryption_context.of(dict(request.encryption_context)),
            plain_address(request.source_address),
            request.via_service,
            clock.microseconds(request.time) / 1e6 if request.HasField("time") else 0.0,
        )

    def _resource(self, name: str) -> Resource:
        if not name:
            raise required("resource")
        if name.startswith(_SERVICE):
            # The mesh as a whole is the operator's.
            return Resource("Service", name, self._simulation.operator)
        if name.count("/") == 1:
            return resource(f"accounts/{names.parse_account(name, 'resource')}")
        if name == f"accounts/{account_of(name)}/log":
            return Resource("Log", name, names.parse_account(f"accounts/{account_of(name)}", "resource"))
        return resource(str(names.parse(name, "resource", *_COLLECTIONS)))


def _principal(request: pb.SimulateAccessRequest) -> Principal:
    name = request.principal
    if not name:
        raise required("principal")
    session = request.session
    if session.session_policy:
        policy_text.require_valid(
            session.session_policy,
            POLICY_KIND_RESOURCE,
            account_of(name),
            "session.session_policy",
            policy_text.MAX_SESSION_POLICY_BYTES,
        )
    scope = SessionScope(
        (session.session_policy,) if session.session_policy else (), tuple(sorted(session.session_tags.items()))
    )
    if name.startswith(_SERVICE):
        return Principal(name, "", session.session_name, scope=scope)
    parsed = names.parse(name, "principal", *_PRINCIPALS)
    return Principal(name, parsed.account, session.session_name, scope=scope)


def _checked_drafts(drafts: Sequence[Policy]) -> Iterator[Policy]:
    if len(drafts) > _MAX_DRAFTS:
        raise too_large("draft_policies", _MAX_DRAFTS, "policies")
    for number, policy in enumerate(drafts):
        field = f"draft_policies[{number}]"
        account = names.parse(policy.name, f"{field}.name", "policies").account
        kind = policy.kind or POLICY_KIND_IDENTITY
        policy_text.require_valid(policy.cedar, kind, account, f"{field}.cedar")
        for target in policy.attached_to:
            # What it could not be attached to it does not decide on here either.
            where = policies.attachable(target, f"{field}.attached_to")
            policies.require_target(policy.name, kind, where, f"{field}.attached_to")
        yield policy


def _draft(policy: Policy) -> Draft:
    kind = policy.kind or POLICY_KIND_IDENTITY
    return Draft(policy.name, account_of(policy.name), kind, policy.cedar, tuple(policy.attached_to))


def _response(simulated: Simulated) -> pb.SimulateAccessResponse:
    outcome = simulated.outcome
    sides = [(simulated.principal_account, outcome.identity), (simulated.resource_account, outcome.resource)]
    determinants = [
        determinant
        for account, verdict in sides
        if account in simulated.seen_accounts
        for determinant in _determinants(account, verdict)
    ]
    if simulated.grant and simulated.resource_account in simulated.seen_accounts:
        determinants.append(Determinant(name=simulated.grant, effect=EFFECT_PERMIT, account=simulated.resource_account))
    seen_all = simulated.seen_accounts >= {simulated.principal_account, simulated.resource_account} - {""}
    return pb.SimulateAccessResponse(
        allowed=simulated.decision.allowed,
        decided_by=simulated.decision.decided_by if seen_all else ", ".join(one.name for one in determinants),
        determinants=determinants,
        denying_accounts=simulated.denying_accounts,
        errors={
            name: message
            for account, verdict in sides
            if account in simulated.seen_accounts
            for name, message in verdict.errors
        },
        as_of_revision=simulated.as_of_revision,
    )


def _determinants(account: str, verdict: Verdict) -> Iterable[Determinant]:
    effects: tuple[tuple[Effect.ValueType, tuple[str, ...]], ...] = (
        (EFFECT_PERMIT, verdict.permits),
        (EFFECT_FORBID, verdict.forbids),
    )
    for effect, named in effects:
        for name in named:
            yield Determinant(name=name, effect=effect, account=account)
