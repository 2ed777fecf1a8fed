"""Policies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import policy_pb2
from strongroom.access.v1.access_service_pb2_grpc import AccessServiceStub
from strongroom.calls.base import Part, mask_of, new_request_id, pages
from strongroom.convert import enum_number, enum_text, moment
from strongroom.transport import Answer


@dataclass(frozen=True, slots=True)
class Policy:
    """A set of Cedar policies, and what it is attached to, by full name.

    `kind` is IDENTITY, which is attached to principals, or RESOURCE, which is attached to keys and secrets. `event_id`
    is the id of the audit event of the call that answered it; it is empty in lists.
    """

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
    """Something that is wrong with a policy's text; `severity` is ERROR or WARNING.

    `line` and `column` count from 1, and are 0 for a problem that has no place.
    """

    severity: str
    line: int
    column: int
    message: str


class Policies(Part[AccessServiceStub]):
    """Keeps policies. `policy` is an id or a full name.

    A target is `users/{id}`, `workloads/{id}`, `roles/{id}`, `keys/{id}`, `secrets/{id}`, or a full name such as
    `accounts/{account}`.
    """

    def create(
        self,
        policy_id: str,
        cedar: str,
        *,
        kind: str = "IDENTITY",
        attached_to: Sequence[str] = (),
        description: str = "",
        timeout: float | None = None,
    ) -> Policy:
        """Makes a policy, attached to as many targets as are given.

        Raises POLICY_INVALID, with `line`, `column` and `error` in the error's metadata; ALREADY_EXISTS;
        POLICY_LOCKOUT where nobody could administer the account then.
        """
        parent, _, policy_id = self._names.parts(self._names.policy(policy_id), "policy")
        policy = policy_pb2.Policy(
            kind=enum_number(policy_pb2.PolicyKind, "POLICY_KIND_", kind, "kind"),
            cedar=cedar,
            attached_to=map(self._names.target, attached_to),
            description=description,
        )
        request = pb.CreatePolicyRequest(parent=parent, policy_id=policy_id, policy=policy, request_id=new_request_id())
        return _answered(self._service.call(self._service.stub.CreatePolicy, request, timeout))

    def get(self, policy: str, *, timeout: float | None = None) -> Policy:
        """Answers a policy. Raises POLICY_NOT_FOUND."""
        request = pb.GetPolicyRequest(name=self._names.policy(policy))
        return _answered(self._service.call(self._service.stub.GetPolicy, request, timeout))

    def list(
        self,
        filter: str = "",  # noqa: A002  # the name in the contract
        *,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Policy]:
        """Lists the account's policies by name.

        `filter` is such as `kind = RESOURCE AND attached_to = "keys/k"`, whose name may be a full one. Pages are
        fetched as they are needed, `limit` items at most; `timeout` is for each page.
        """
        conditions = self._names.completed(filter, "attached_to")

        def fetch(token: str, size: int) -> tuple[list[Policy], str]:
            request = pb.ListPoliciesRequest(
                parent=self._names.account, page_size=size, page_token=token, filter=conditions
            )
            answer = self._service.call(self._service.stub.ListPolicies, request, timeout).response
            return [_policy(policy) for policy in answer.policies], answer.next_page_token

        return pages(fetch, limit)

    def update(
        self,
        policy: str,
        *,
        cedar: str | None = None,
        description: str | None = None,
        etag: str = "",
        timeout: float | None = None,
    ) -> Policy:
        """Changes what is given of a policy: `None` leaves a field as it is.

        With an `etag`, it is changed only if that is still current: ETAG_MISMATCH. Raises POLICY_INVALID,
        POLICY_LOCKOUT.
        """
        wanted = policy_pb2.Policy(
            name=self._names.policy(policy), cedar=cedar or "", description=description or "", etag=etag
        )
        given = {"cedar": cedar, "description": description}
        request = pb.UpdatePolicyRequest(policy=wanted, update_mask=mask_of(given))
        return _answered(self._service.call(self._service.stub.UpdatePolicy, request, timeout))

    def delete(self, policy: str, *, etag: str = "", timeout: float | None = None) -> str:
        """Deletes a policy, and detaches it; answers the event id. Raises POLICY_LOCKOUT."""
        request = pb.DeletePolicyRequest(name=self._names.policy(policy), etag=etag)
        return self._service.call(self._service.stub.DeletePolicy, request, timeout).event_id

    def attach(self, policy: str, target: str, *, timeout: float | None = None) -> Policy:
        """Attaches a policy to a target; one that is attached stays so.

        Raises PRINCIPAL_NOT_FOUND, KEY_NOT_FOUND, FIELD_INVALID for a target that its kind does not allow,
        LIMIT_EXCEEDED beyond 1,000 targets, POLICY_LOCKOUT.
        """
        request = pb.AttachPolicyRequest(name=self._names.policy(policy), target=self._names.target(target))
        return _answered(self._service.call(self._service.stub.AttachPolicy, request, timeout))

    def detach(self, policy: str, target: str, *, timeout: float | None = None) -> Policy:
        """Detaches a policy from a target; one that is not attached stays so. Raises POLICY_LOCKOUT."""
        request = pb.DetachPolicyRequest(name=self._names.policy(policy), target=self._names.target(target))
        return _answered(self._service.call(self._service.stub.DetachPolicy, request, timeout))

    def validate(
        self, cedar: str, *, kind: str = "IDENTITY", timeout: float | None = None
    ) -> tuple[PolicyProblem, ...]:
        """Tells what is wrong with a policy's text; it is accepted unless one of the problems is an ERROR."""
        request = pb.ValidatePolicyRequest(
            parent=self._names.account,
            cedar=cedar,
            kind=enum_number(policy_pb2.PolicyKind, "POLICY_KIND_", kind, "kind"),
        )
        answer = self._service.call(self._service.stub.ValidatePolicy, request, timeout).response
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
