"""Handlers of policies."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from services.keystore.access.policies import policies
from services.keystore.access.policies.policies import Policies
from services.keystore.access.policies.policy_text import MAX_BYTES
from services.keystore.access.records import filters
from services.keystore.access.records.resources import Policy
from services.runtime import clock
from services.runtime.call import Call
from services.runtime.errors import invalid, required, too_large
from services.runtime.requests import names
from services.runtime.requests.fields import changed_paths, check_text
from services.runtime.requests.paging import Page
from services.runtime.storage.request_ids import repeatable
from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import policy_pb2
from strongroom.access.v1.policy_pb2 import POLICY_KIND_IDENTITY, PROBLEM_SEVERITY_ERROR, PolicyKind

_PATHS = ("cedar", "description")


class PolicyHandlers:
    """The methods of AccessService about policies."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies

    def CreatePolicy(self, request: pb.CreatePolicyRequest, call: Call) -> policy_pb2.Policy:
        """A new policy."""
        return policy_message(self._policies.create(call, _new_policy(request), repeatable(request, call)))

    def GetPolicy(self, request: pb.GetPolicyRequest, call: Call) -> policy_pb2.Policy:
        """A policy."""
        return policy_message(self._policies.get(call, _name(request.name)))

    def ListPolicies(self, request: pb.ListPoliciesRequest, call: Call) -> pb.ListPoliciesResponse:
        """A page of an account's policies, by name."""
        account = names.parse_account(request.parent, "parent")
        conditions = filters.of_policies(request.filter, account)
        page = Page.of(request, f"{request.parent}/policies?{request.filter}")
        found = self._policies.page(call, account, page.after, page.limit, conditions)
        listed, token = page.fill(found, policy_message, lambda policy: policy.name)
        return pb.ListPoliciesResponse(policies=listed, next_page_token=token)

    def UpdatePolicy(self, request: pb.UpdatePolicyRequest, call: Call) -> policy_pb2.Policy:
        """Another text, another description."""
        asked = request.policy
        name = _name(asked.name, "policy.name")
        paths = changed_paths(request.update_mask, _PATHS)
        description = check_text(asked.description, "policy.description")
        changed = self._policies.update(
            call,
            name,
            asked.cedar if "cedar" in paths else None,
            description if "description" in paths else None,
            asked.etag,
        )
        return policy_message(changed)

    def DeletePolicy(self, request: pb.DeletePolicyRequest, call: Call) -> Empty:
        """Deletes a policy, and detaches it."""
        self._policies.delete(call, _name(request.name), request.etag)
        return Empty()

    def AttachPolicy(self, request: pb.AttachPolicyRequest, call: Call) -> policy_pb2.Policy:
        """Attaches a policy."""
        target = policies.attachable(request.target, "target")
        return policy_message(self._policies.attach(call, _name(request.name), target))

    def DetachPolicy(self, request: pb.DetachPolicyRequest, call: Call) -> policy_pb2.Policy:
        """Detaches a policy."""
        target = policies.attachable(request.target, "target")
        return policy_message(self._policies.detach(call, _name(request.name), target))

    def ValidatePolicy(self, request: pb.ValidatePolicyRequest, call: Call) -> pb.ValidatePolicyResponse:
        """What is wrong with a policy's text."""
        account = names.parse_account(request.parent, "parent")
        if not request.cedar:
            raise required("cedar")
        if len(request.cedar.encode()) > MAX_BYTES:
            raise too_large("cedar", MAX_BYTES)
        problems = self._policies.problems(call, account, request.cedar, _kind(request.kind, "kind"))
        return pb.ValidatePolicyResponse(
            valid=all(problem.severity != PROBLEM_SEVERITY_ERROR for problem in problems),
            problems=[
                policy_pb2.PolicyProblem(
                    severity=problem.severity, line=problem.line, column=problem.column, message=problem.message
                )
                for problem in problems
            ],
        )


def policy_message(policy: Policy) -> policy_pb2.Policy:
    """A policy as callers see it."""
    return policy_pb2.Policy(
        name=policy.name,
        kind=policy.kind,
        cedar=policy.cedar,
        attached_to=policy.attached_to,
        description=policy.description,
        create_time=clock.from_microseconds(policy.created_us),
        update_time=clock.from_microseconds(policy.updated_us),
        etag=str(policy.revision),
    )


def _new_policy(request: pb.CreatePolicyRequest) -> Policy:
    account = names.parse_account(request.parent, "parent")
    if not request.policy_id:
        raise required("policy_id")
    asked = request.policy
    if len(asked.attached_to) > policies.MAX_TARGETS:
        raise too_large("policy.attached_to", policies.MAX_TARGETS, "targets")
    return Policy(
        str(names.ResourceName(account, "policies", names.check_id(request.policy_id, "policies", "policy_id"))),
        _kind(asked.kind, "policy.kind"),
        asked.cedar,
        tuple(sorted({policies.attachable(target, "policy.attached_to") for target in asked.attached_to})),
        check_text(asked.description, "policy.description"),
    )


def _kind(asked: PolicyKind.ValueType, field: str) -> PolicyKind.ValueType:
    if asked not in PolicyKind.values():
        raise invalid(field, "is not a kind of policies")
    return asked or POLICY_KIND_IDENTITY


def _name(name: str, field: str = "name") -> str:
    return str(names.parse(name, field, "policies"))
