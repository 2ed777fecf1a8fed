"""Who may do what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import policy_pb2
from strongroom.access.v1 import session_service_pb2 as session_pb
from strongroom.access.v1.access_service_pb2_grpc import AccessServiceStub
from strongroom.access.v1.session_service_pb2_grpc import SessionServiceStub
from strongroom.calls.access.simulation import AccessDecision, decision_of
from strongroom.calls.base import Part
from strongroom.convert import enum_number, enum_text, moment
from strongroom.names import Names
from strongroom.transport import Transport

if TYPE_CHECKING:
    from strongroom.calls.access.accounts import Accounts
    from strongroom.calls.access.client_keys import ClientKeys
    from strongroom.calls.access.grants import Grants
    from strongroom.calls.access.oidc_providers import OidcProviders
    from strongroom.calls.access.policies import Policies, Policy
    from strongroom.calls.access.principals import Principals
    from strongroom.calls.access.quotas import Quotas
    from strongroom.calls.access.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a caller is; `principal`, `account`, `assumed_by` and `roles` are full names.

    `credential_kind` is CERTIFICATE, CLIENT_KEY, OIDC_TOKEN or ASSUMED_ROLE; `credential` is the certificate's SPIFFE
    id, or what stands for it. What is about a session is empty without one, and `expire_time` None.
    """

    principal: str
    account: str
    session_name: str
    credential_kind: str
    credential: str
    assumed_by: tuple[str, ...]
    roles: tuple[str, ...]
    tags: Mapping[str, str]
    session_tags: Mapping[str, str]
    session_policies: tuple[str, ...]
    expire_time: datetime | None
    event_id: str


class Access(Part[AccessServiceStub]):
    """Who the caller is, and who may do what; each subject has a part of its own."""

    def __init__(self, transport: Transport, names: Names) -> None:
        super().__init__(transport.endpoint("keystore", AccessServiceStub), names)
        self._transport = transport

    @cached_property
    def accounts(self) -> Accounts:
        """Accounts, the tenants of the mesh."""
        from strongroom.calls.access.accounts import Accounts

        return Accounts(self._service, self._names)

    @cached_property
    def principals(self) -> Principals:
        """Users, workloads and roles."""
        from strongroom.calls.access.principals import Principals

        return Principals(self._service, self._names)

    @cached_property
    def client_keys(self) -> ClientKeys:
        """Client keys: what a client without a certificate authenticates with."""
        from strongroom.calls.access.client_keys import ClientKeys

        return ClientKeys(self._service, self._names)

    @cached_property
    def oidc_providers(self) -> OidcProviders:
        """Issuers of OIDC tokens that the account accepts."""
        from strongroom.calls.access.oidc_providers import OidcProviders

        return OidcProviders(self._service, self._names)

    @cached_property
    def policies(self) -> Policies:
        """Policies (Cedar), and what they are attached to."""
        from strongroom.calls.access.policies import Policies

        return Policies(self._service, self._names)

    @cached_property
    def grants(self) -> Grants:
        """Grants: operations on one key, delegated to one principal."""
        from strongroom.calls.access.grants import Grants

        return Grants(self._service, self._names)

    @cached_property
    def quotas(self) -> Quotas:
        """Quotas: how many requests are let through."""
        from strongroom.calls.access.quotas import Quotas

        return Quotas(self._service, self._names)

    @cached_property
    def sessions(self) -> Sessions:
        """Sessions: what credentials and roles are exchanged for."""
        from strongroom.calls.access.sessions import Sessions

        return Sessions.of(self._transport, self._names)

    def whoami(self, *, timeout: float | None = None) -> Identity:
        """Who the services take this client for. Raises IDENTITY_UNKNOWN, PRINCIPAL_DISABLED, TOKEN_EXPIRED."""
        service = self._transport.endpoint("keystore", SessionServiceStub)
        answer = service.call(service.stub.GetCallerIdentity, session_pb.GetCallerIdentityRequest(), timeout)
        caller = answer.response
        return Identity(
            principal=caller.principal,
            account=caller.account,
            session_name=caller.session_name,
            credential_kind=enum_text(session_pb.CredentialKind, "CREDENTIAL_KIND_", caller.credential_kind),
            credential=caller.credential,
            assumed_by=tuple(caller.assumed_by),
            roles=tuple(caller.roles),
            tags=dict(caller.tags),
            session_tags=dict(caller.session_tags),
            session_policies=tuple(caller.session_policies),
            expire_time=moment(caller.expire_time),
            event_id=answer.event_id,
        )

    def simulate(
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
        """Tells what would be decided on a call, and why, without making it.

        `principal` is whoever would call, `action` such as `crypto:Encrypt`, and `resource` a full name, `keys/{id}`
        or `secrets/{id}`. `context` is the encryption context of the call; `session_policy`, `session_tags`,
        `source_address`, `at` (when) and `via_service` are its circumstances. `drafts` are policies that are not
        written yet, looked at beside those that are, and `resource_tags` stand for the tags of a resource that does
        not exist yet. Needs `access:SimulateAccess` on the accounts of both. Raises PRINCIPAL_NOT_FOUND,
        POLICY_INVALID, PERMISSION_DENIED.
        """
        request = pb.SimulateAccessRequest(
            principal=principal if principal.startswith("services/") else self._names.principal(principal),
            action=action,
            resource=resource if resource.startswith("services/") else self._names.resource(resource),
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
        answer = self._service.call(self._service.stub.SimulateAccess, request, timeout)
        return decision_of(answer.response, answer.event_id)

    def get_schema(self, *, timeout: float | None = None) -> str:
        """The Cedar schema that policies are checked against, in Cedar's own syntax."""
        return self._service.call(self._service.stub.GetSchema, pb.GetSchemaRequest(), timeout).response.cedar_schema
