"""Grants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import grant_pb2
from strongroom.access.v1.access_service_pb2_grpc import AccessServiceStub
from strongroom.calls.base import Part, new_request_id, pages
from strongroom.convert import moment
from strongroom.errors import StrongroomError
from strongroom.transport import Answer

ANY_ACCOUNT = "accounts/-"


@dataclass(frozen=True, slots=True)
class Grant:
    """Some operations on one key, delegated to one principal.

    `context_equals` and `context_contains` bind it to an encryption context; at most one of them is given. `event_id`
    is the id of the audit event of the call that answered it; it is empty in lists.
    """

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


class Grants(Part[AccessServiceStub]):
    """Keeps grants. `grant` is an id or a full name.

    A principal is `users/{id}`, `workloads/{id}`, `roles/{id}`, or a full name, of any account.
    """

    def create(
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
        """Lets a principal do some operations, such as `crypto:Decrypt`, with a key.

        They are permitted under any encryption context, under one that equals the pairs of `context_equals`, or under
        one that contains those of `context_contains`. `retiring_principal` may end the grant, as its grantee may where
        it permits `access:RetireGrant`. Raises KEY_NOT_FOUND, PRINCIPAL_NOT_FOUND, LIMIT_EXCEEDED.
        """
        if context_equals is not None and context_contains is not None:
            raise StrongroomError("FIELD_INVALID", "a grant is bound to one context, equal or contained")
        name = self._names.key(key)
        grant = grant_pb2.Grant(
            key=name,
            grantee=self._names.principal(grantee, "grantee"),
            operations=operations,
            constraint=_constraint(context_equals, context_contains),
            retiring_principal=retiring_principal and self._names.principal(retiring_principal, "retiring_principal"),
            description=description,
        )
        if expire_time is not None:
            grant.expire_time.FromDatetime(expire_time)
        parent = "/".join(name.split("/")[:2])
        request = pb.CreateGrantRequest(parent=parent, grant=grant, request_id=new_request_id())
        return _answered(self._service.call(self._service.stub.CreateGrant, request, timeout))

    def get(self, grant: str, *, timeout: float | None = None) -> Grant:
        """Answers a grant. Raises GRANT_NOT_FOUND."""
        request = pb.GetGrantRequest(name=self._names.grant(grant))
        return _answered(self._service.call(self._service.stub.GetGrant, request, timeout))

    def list(
        self,
        *,
        key: str = "",
        grantee: str = "",
        retiring_principal: str = "",
        any_account: bool = False,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Grant]:
        """Lists grants by name: on one key, to one grantee, with one retiring principal, or all of the account's.

        With `any_account` it lists those on keys of any account, to a grantee or with a retiring principal of the
        client's own account. Pages are fetched as they are needed, `limit` items at most; `timeout` is for each page.
        """
        key = key and self._names.key(key)
        own = "/".join(key.split("/")[:2]) if key else self._names.account
        request = pb.ListGrantsRequest(
            parent=ANY_ACCOUNT if any_account else own,
            key=key,
            grantee=grantee and self._names.principal(grantee, "grantee"),
            retiring_principal=retiring_principal and self._names.principal(retiring_principal, "retiring_principal"),
        )

        def fetch(token: str, size: int) -> tuple[list[Grant], str]:
            request.page_size, request.page_token = size, token
            answer = self._service.call(self._service.stub.ListGrants, request, timeout).response
            return [_grant(grant) for grant in answer.grants], answer.next_page_token

        return pages(fetch, limit)

    def revoke(self, grant: str, *, timeout: float | None = None) -> str:
        """Ends a grant on one of the account's keys: within one second nobody acts by it.

        Answers the id of the audit event. Raises GRANT_NOT_FOUND.
        """
        request = pb.RevokeGrantRequest(name=self._names.grant(grant))
        return self._service.call(self._service.stub.RevokeGrant, request, timeout).event_id

    def retire(self, grant: str, *, timeout: float | None = None) -> str:
        """Ends a grant that serves the caller, its grantee or retiring principal; answers the event id.

        Raises PERMISSION_DENIED for anybody else.
        """
        request = pb.RetireGrantRequest(name=self._names.grant(grant))
        return self._service.call(self._service.stub.RetireGrant, request, timeout).event_id


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
