"""Policies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import policy_pb2
from strongroom.calls.accounts import AccountCalls
from strongroom.calls.base import mask_of, new_request_id, pages
from strongroom.convert import enum_number, enum_text, moment
from strongroom.transport import Answer


@dataclass(frozen=True, slots=True)
class Policy:
    """A set of Cedar policies, and what it is attached to. `kind` is IDENTITY or RESOURCE. `event_id` is the audit
    event of the call that answered it; empty in lists."""

    name: str
    kind: str
    cedar: str
    attached_to: tuple[str, ...]
    description: str
    create_time: datetime | None
    update_time: datetime | None
    etag: str
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class PolicyProblem:
    """Something that is wrong with a policy's text. `severity` is ERROR or WARNING; line and column count from 1, and
    are 0 where it is nowhere in particular."""

    severity: str
    line: int
    column: int
    message: str


class PolicyCalls(AccountCalls):
    """Methods that keep policies. `policy` is an id or a full name; a target is `users/{id}`, `workloads/{id}`,
    `roles/{id}`, `keys/{id}`, `secrets/{id}`, or a full name such as `accounts/{account}`."""

    def create_policy(
        self,
        policy_id: str,
        cedar: str,
        *,
        kind: str = "IDENTITY",
        attached_to: Sequence[str] = (),
        description: str = "",
        timeout: float | None = None,
    ) -> Policy:
        """Makes a policy, attached to as many targets as are given. Raises POLICY_INVALID, with `line`, `column` and
        `error` in the metadata; ALREADY_EXISTS; POLICY_LOCKOUT."""
        parent, _, policy_id = self.names.parts(self.names.policy(policy_id), "policy")
        policy = policy_pb2.Policy(
            kind=enum_number(policy_pb2.PolicyKind, "POLICY_KIND_", kind, "kind"),
            cedar=cedar,
            attached_to=map(self.names.target, attached_to),
            description=description,
        )
        request = pb.CreatePolicyRequest(parent=parent, policy_id=policy_id, policy=policy, request_id=new_request_id())
        return _answered(self._access.call(self._access.stub.CreatePolicy, request, timeout))

    def get_policy(self, policy: str, *, timeout: float | None = None) -> Policy:
        """The policy. Raises POLICY_NOT_FOUND."""
        request = pb.GetPolicyRequest(name=self.names.policy(policy))
        return _answered(self._access.call(self._access.stub.GetPolicy, request, timeout))

    def list_policies(
        self,
        filter: str = "",  # noqa: A002  # the name in the contract
        *,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Policy]:
        """The account's policies by name; pages are fetched as they are needed. `filter` is as in the contract:
        `kind = RESOURCE AND attached_to = "accounts/a/keys/k"`."""

        def fetch(token: str, size: int) -> tuple[list[Policy], str]:
            request = pb.ListPoliciesRequest(parent=self.names.account, page_size=size, page_token=token, filter=filter)
            answer = self._access.call(self._access.stub.ListPolicies, request, timeout).response
            return [_policy(policy) for policy in answer.policies], answer.next_page_token

        return pages(fetch, limit)

    def update_policy(
        self,
        policy: str,
        *,
        cedar: str | None = None,
        description: str | None = None,
        etag: str = "",
        timeout: float | None = None,
    ) -> Policy:
        """Changes what is given; with an etag, only if it is still current: ETAG_MISMATCH. Raises POLICY_INVALID,
        POLICY_LOCKOUT."""
        wanted = policy_pb2.Policy(
            name=self.names.policy(policy), cedar=cedar or "", description=description or "", etag=etag
        )
        given = {"cedar": cedar, "description": description}
        request = pb.UpdatePolicyRequest(policy=wanted, update_mask=mask_of(given))
        return _answered(self._access.call(self._access.stub.UpdatePolicy, request, timeout))

    def delete_policy(self, policy: str, *, etag: str = "", timeout: float | None = None) -> str:
        """Deletes a policy, and detaches it; answers the event id. Raises POLICY_LOCKOUT."""
        request = pb.DeletePolicyRequest(name=self.names.policy(policy), etag=etag)
        return self._access.call(self._access.stub.DeletePolicy, request, timeout).event_id

    def attach_policy(self, policy: str, target: str, *, timeout: float | None = None) -> Policy:
        """Attaches a policy; one that is attached stays so. Raises PRINCIPAL_NOT_FOUND, KEY_NOT_FOUND,
        LIMIT_EXCEEDED, POLICY_LOCKOUT."""
        request = pb.AttachPolicyRequest(name=self.names.policy(policy), target=self.names.target(target))
        return _answered(self._access.call(self._access.stub.AttachPolicy, request, timeout))

    def detach_policy(self, policy: str, target: str, *, timeout: float | None = None) -> Policy:
        """Detaches a policy; one that is not attached stays so. Raises POLICY_LOCKOUT."""
        request = pb.DetachPolicyRequest(name=self.names.policy(policy), target=self.names.target(target))
        return _answered(self._access.call(self._access.stub.DetachPolicy, request, timeout))

    def validate_policy(
        self, cedar: str, *, kind: str = "IDENTITY", timeout: float | None = None
    ) -> tuple[PolicyProblem, ...]:
        """What is wrong with a policy's text; it is accepted unless one of the problems is an ERROR."""
        request = pb.ValidatePolicyRequest(
            parent=self.names.account,
            cedar=cedar,
            kind=enum_number(policy_pb2.PolicyKind, "POLICY_KIND_", kind, "kind"),
        )
        answer = self._access.call(self._access.stub.ValidatePolicy, request, timeout).response
        return tuple(
            PolicyProblem(
                severity=enum_text(policy_pb2.ProblemSeverity, "PROBLEM_SEVERITY_", problem.severity),
                line=problem.line,
                column=problem.column,
                message=problem.message,
            )
            for problem in answer.problems
        )


def _answered(answer: Answer[policy_pb2.Policy]) -> Policy:
    return _policy(answer.response, answer.event_id)


def _policy(policy: policy_pb2.Policy, event_id: str = "") -> Policy:
    return Policy(
        name=policy.name,
        kind=enum_text(policy_pb2.PolicyKind, "POLICY_KIND_", policy.kind),
        cedar=policy.cedar,
        attached_to=tuple(policy.attached_to),
        description=policy.description,
        create_time=moment(policy.create_time),
        update_time=moment(policy.update_time),
        etag=policy.etag,
        event_id=event_id,
    )
