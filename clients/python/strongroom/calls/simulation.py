"""What would be decided on a call, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import policy_pb2
from strongroom.calls.accounts import AccountCalls
from strongroom.calls.policies import Policy
from strongroom.convert import enum_number, enum_text


@dataclass(frozen=True, slots=True)
class Determinant:
    """A policy or grant that took part in a decision. `effect` is PERMIT or FORBID; `account` is the id of the account
    whose side it decided."""

    name: str
    effect: str
    account: str


@dataclass(frozen=True, slots=True)
class AccessDecision:
    """Whether a call would be permitted, and why. `denying_accounts` are the sides of a call across accounts that did
    not permit it; `errors` are policies that could not be evaluated."""

    allowed: bool
    decided_by: str
    determinants: tuple[Determinant, ...]
    denying_accounts: tuple[str, ...]
    errors: Mapping[str, str]
    event_id: str


class SimulationCalls(AccountCalls):
    """Methods that explain access."""

    def simulate_access(
        self,
        principal: str,
        action: str,
        resource: str,
        context: Mapping[str, str] | None = None,
        *,
        session_policy: str = "",
        session_tags: Mapping[str, str] | None = None,
        source_address: str = "",
        at: datetime | None = None,
        via_service: str = "",
        resource_tags: Mapping[str, str] | None = None,
        drafts: Sequence[Policy] = (),
        timeout: float | None = None,
    ) -> AccessDecision:
        """What would be decided if `principal` did `action`, such as `crypto:Encrypt`, on `resource`, a full name or
        `keys/{id}` and the like, with policies that are not written yet (`drafts`) beside those that are. Needs
        `access:SimulateAccess` on the accounts of both."""
        request = pb.SimulateAccessRequest(
            principal=principal if principal.startswith("services/") else self.names.principal(principal),
            action=action,
            resource=resource if resource.startswith("services/") else self.names.resource(resource),
            encryption_context=context,
            session=pb.SimulatedSession(session_policy=session_policy, session_tags=session_tags),
            source_address=source_address,
            via_service=via_service,
            resource_tags=resource_tags,
            draft_policies=[
                policy_pb2.Policy(
                    name=draft.name,
                    kind=enum_number(policy_pb2.PolicyKind, "POLICY_KIND_", draft.kind, "kind"),
                    cedar=draft.cedar,
                    attached_to=draft.attached_to,
                )
                for draft in drafts
            ],
        )
        if at is not None:
            request.time.FromDatetime(at)
        answer = self._access.call(self._access.stub.SimulateAccess, request, timeout)
        decision = answer.response
        return AccessDecision(
            allowed=decision.allowed,
            decided_by=decision.decided_by,
            determinants=tuple(
                Determinant(one.name, enum_text(policy_pb2.Effect, "EFFECT_", one.effect), one.account)
                for one in decision.determinants
            ),
            denying_accounts=tuple(decision.denying_accounts),
            errors=dict(decision.errors),
            event_id=answer.event_id,
        )

    def get_access_schema(self, *, timeout: float | None = None) -> str:
        """The Cedar schema that policies are checked against, in Cedar's own syntax."""
        return self._access.call(self._access.stub.GetSchema, pb.GetSchemaRequest(), timeout).response.cedar_schema
