"""Grants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import grant_pb2
from strongroom.calls.accounts import AccountCalls
from strongroom.calls.base import new_request_id, pages
from strongroom.convert import moment
from strongroom.errors import StrongroomError
from strongroom.transport import Answer

ANY_ACCOUNT = "accounts/-"


@dataclass(frozen=True, slots=True)
class Grant:
    """Some operations on one key, delegated to one principal. Of the two contexts at most one is given. `event_id` is
    the audit event of the call that answered it; empty in lists."""

    name: str
    key: str
    grantee: str
    operations: tuple[str, ...]
    context_equals: Mapping[str, str] | None
    context_contains: Mapping[str, str] | None
    retiring_principal: str
    expire_time: datetime | None
    description: str
    creator: str
    create_time: datetime | None
    event_id: str = ""


class GrantCalls(AccountCalls):
    """Methods that keep grants. `grant` is an id or a full name; a principal `users/{id}`, `workloads/{id}`,
    `roles/{id}`, or a full name, of any account."""

    def create_grant(
        self,
        key: str,
        grantee: str,
        operations: Sequence[str],
        *,
        context_equals: Mapping[str, str] | None = None,
        context_contains: Mapping[str, str] | None = None,
        retiring_principal: str = "",
        expire_time: datetime | None = None,
        description: str = "",
        timeout: float | None = None,
    ) -> Grant:
        """Lets a principal do some operations, such as `crypto:Decrypt`, with a key: under any encryption context, one
        that equals these pairs, or one that contains them. Raises KEY_NOT_FOUND, PRINCIPAL_NOT_FOUND."""
        if context_equals is not None and context_contains is not None:
            raise StrongroomError("FIELD_INVALID", "a grant is bound to one context, equal or contained")
        name = self.names.key(key)
        grant = grant_pb2.Grant(
            key=name,
            grantee=self.names.principal(grantee, "grantee"),
            operations=operations,
            constraint=_constraint(context_equals, context_contains),
            retiring_principal=retiring_principal and self.names.principal(retiring_principal, "retiring_principal"),
            description=description,
        )
        if expire_time is not None:
            grant.expire_time.FromDatetime(expire_time)
        parent = "/".join(name.split("/")[:2])
        request = pb.CreateGrantRequest(parent=parent, grant=grant, request_id=new_request_id())
        return _answered(self._access.call(self._access.stub.CreateGrant, request, timeout))

    def get_grant(self, grant: str, *, timeout: float | None = None) -> Grant:
        """The grant. Raises GRANT_NOT_FOUND."""
        request = pb.GetGrantRequest(name=self.names.grant(grant))
        return _answered(self._access.call(self._access.stub.GetGrant, request, timeout))

    def list_grants(
        self,
        *,
        key: str = "",
        grantee: str = "",
        retiring_principal: str = "",
        any_account: bool = False,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Grant]:
        """Grants on keys of the account, by name; with `any_account` on keys of any, to a grantee or with a retiring
        principal of one's own. Pages are fetched as they are needed."""
        key = key and self.names.key(key)
        own = "/".join(key.split("/")[:2]) if key else self.names.account
        request = pb.ListGrantsRequest(
            parent=ANY_ACCOUNT if any_account else own,
            key=key,
            grantee=grantee and self.names.principal(grantee, "grantee"),
            retiring_principal=retiring_principal and self.names.principal(retiring_principal, "retiring_principal"),
        )

        def fetch(token: str, size: int) -> tuple[list[Grant], str]:
            request.page_size, request.page_token = size, token
            answer = self._access.call(self._access.stub.ListGrants, request, timeout).response
            return [_grant(grant) for grant in answer.grants], answer.next_page_token

        return pages(fetch, limit)

    def revoke_grant(self, grant: str, *, timeout: float | None = None) -> str:
        """Ends a grant on one of the account's keys: within one second nobody acts by it. The event's id is the answer.
        Raises GRANT_NOT_FOUND."""
        request = pb.RevokeGrantRequest(name=self.names.grant(grant))
        return self._access.call(self._access.stub.RevokeGrant, request, timeout).event_id

    def retire_grant(self, grant: str, *, timeout: float | None = None) -> str:
        """Ends a grant that serves the caller. The event's id is the answer. Raises PERMISSION_DENIED for others."""
        request = pb.RetireGrantRequest(name=self.names.grant(grant))
        return self._access.call(self._access.stub.RetireGrant, request, timeout).event_id


def _constraint(
    equals: Mapping[str, str] | None, contains: Mapping[str, str] | None
) -> grant_pb2.GrantConstraint | None:
    if equals is not None:
        return grant_pb2.GrantConstraint(context_equals=grant_pb2.ContextPairs(pairs=equals))
    if contains is not None:
        return grant_pb2.GrantConstraint(context_contains=grant_pb2.ContextPairs(pairs=contains))
    return None


def _answered(answer: Answer[grant_pb2.Grant]) -> Grant:
    return _grant(answer.response, answer.event_id)


def _grant(grant: grant_pb2.Grant, event_id: str = "") -> Grant:
    constraint = grant.constraint
    kind = constraint.WhichOneof("kind")
    return Grant(
        name=grant.name,
        key=grant.key,
        grantee=grant.grantee,
        operations=tuple(grant.operations),
        context_equals=dict(constraint.context_equals.pairs) if kind == "context_equals" else None,
        context_contains=dict(constraint.context_contains.pairs) if kind == "context_contains" else None,
        retiring_principal=grant.retiring_principal,
        expire_time=moment(grant.expire_time),
        description=grant.description,
        creator=grant.creator,
        create_time=moment(grant.create_time),
        event_id=event_id,
    )
