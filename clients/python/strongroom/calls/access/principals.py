"""Users, workloads and roles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import principal_pb2
from strongroom.access.v1.access_service_pb2_grpc import AccessServiceStub
from strongroom.calls.base import Part, mask_of, new_request_id, pages
from strongroom.convert import enum_text, moment, span
from strongroom.errors import StrongroomError
from strongroom.transport import Answer

_KINDS = {
    "users": principal_pb2.PRINCIPAL_KIND_USER,
    "workloads": principal_pb2.PRINCIPAL_KIND_WORKLOAD,
    "roles": principal_pb2.PRINCIPAL_KIND_ROLE,
}


@dataclass(frozen=True, slots=True)
class OidcBinding:
    """An OIDC subject that stands for a principal; `provider` is an id or a full name.

    The token must carry `required_claims`, each as the string that is given.
    """

    provider: str
    subject: str
    required_claims: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Principal:
    """A user, workload or role; `kind` is USER, WORKLOAD or ROLE.

    `trust_policy` and `max_session_duration` are of roles alone. `event_id` is the id of the audit event of the call
    that answered it; it is empty in lists.
    """

    name: str
    kind: str
    description: str
    tags: Mapping[str, str]
    disabled: bool
    roles: tuple[str, ...]
    spiffe_ids: tuple[str, ...]
    oidc_bindings: tuple[OidcBinding, ...]
    trust_policy: str
    max_session_duration: timedelta | None
    sessions_valid_after: datetime | None
    create_time: datetime | None
    update_time: datetime | None
    etag: str
    event_id: str = ""


class Principals(Part[AccessServiceStub]):
    """Keeps users, workloads and roles.

    `principal` is `users/{id}`, `workloads/{id}`, `roles/{id}` or a full name; a role is also given by its id.
    """

    def create(
        self,
        principal: str,
        *,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        roles: Sequence[str] = (),
        spiffe_ids: Sequence[str] = (),
        oidc_bindings: Sequence[OidcBinding] = (),
        trust_policy: str = "",
        max_session_duration: timedelta | None = None,
        timeout: float | None = None,
    ) -> Principal:
        """Makes a user, workload or role; a role needs a trust policy (Cedar), which says who may assume it.

        Raises ALREADY_EXISTS, also for an id used before, and for a SPIFFE id or OIDC subject of another principal;
        POLICY_INVALID; PRINCIPAL_NOT_FOUND for a role that does not exist.
        """
        parent, collection, principal_id = self._names.parts(self._names.principal(principal), "principal")
        wanted = self._wanted(
            principal_pb2.Principal(description=description, tags=tags or {}, roles=map(self._names.role, roles)),
            spiffe_ids,
            oidc_bindings,
            trust_policy,
            max_session_duration,
        )
        if collection not in _KINDS:
            raise StrongroomError("NAME_MALFORMED", f"{principal} is no principal", field="principal")
        wanted.kind = _KINDS[collection]
        request = pb.CreatePrincipalRequest(
            parent=parent, principal_id=principal_id, principal=wanted, request_id=new_request_id()
        )
        return _answered(self._service.call(self._service.stub.CreatePrincipal, request, timeout))

    def get(self, principal: str, *, timeout: float | None = None) -> Principal:
        """Answers a principal. Raises PRINCIPAL_NOT_FOUND."""
        request = pb.GetPrincipalRequest(name=self._names.principal(principal))
        return _answered(self._service.call(self._service.stub.GetPrincipal, request, timeout))

    def list(
        self,
        filter: str = "",  # noqa: A002  # the name in the contract
        *,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Principal]:
        """Lists the account's principals by name; `filter` is such as `kind = USER AND disabled = false`.

        Pages are fetched as they are needed, `limit` items at most; `timeout` is for each page.
        """

        def fetch(token: str, size: int) -> tuple[list[Principal], str]:
            request = pb.ListPrincipalsRequest(
                parent=self._names.account, page_size=size, page_token=token, filter=filter
            )
            answer = self._service.call(self._service.stub.ListPrincipals, request, timeout).response
            return [_principal(principal) for principal in answer.principals], answer.next_page_token

        return pages(fetch, limit)

    def update(
        self,
        principal: str,
        *,
        description: str | None = None,
        spiffe_ids: Sequence[str] | None = None,
        oidc_bindings: Sequence[OidcBinding] | None = None,
        trust_policy: str | None = None,
        max_session_duration: timedelta | None = None,
        etag: str = "",
        timeout: float | None = None,
    ) -> Principal:
        """Changes what is given of a principal: `None` leaves a field as it is.

        A role's settings change together: whoever gives `max_session_duration` gives the trust policy too. With an
        `etag`, it is changed only if that is still current: ETAG_MISMATCH. Raises ALREADY_EXISTS, POLICY_INVALID.
        """
        wanted = self._wanted(
            principal_pb2.Principal(name=self._names.principal(principal), description=description or "", etag=etag),
            spiffe_ids or (),
            oidc_bindings or (),
            trust_policy or "",
            max_session_duration,
        )
        given = {
            "description": description,
            "spiffe_ids": spiffe_ids,
            "oidc_bindings": oidc_bindings,
            "role_settings": trust_policy if trust_policy is not None else max_session_duration,
        }
        request = pb.UpdatePrincipalRequest(principal=wanted, update_mask=mask_of(given))
        return _answered(self._service.call(self._service.stub.UpdatePrincipal, request, timeout))

    def set_tags(
        self, principal: str, tags: Mapping[str, str], *, etag: str = "", timeout: float | None = None
    ) -> Principal:
        """Replaces a principal's tags. With an `etag`, raises ETAG_MISMATCH unless that is still current."""
        request = pb.SetPrincipalTagsRequest(name=self._names.principal(principal), tags=tags, etag=etag)
        return _answered(self._service.call(self._service.stub.SetPrincipalTags, request, timeout))

    def set_roles(
        self, principal: str, roles: Sequence[str], *, etag: str = "", timeout: float | None = None
    ) -> Principal:
        """Replaces the roles that a user or workload holds all the time. Raises POLICY_LOCKOUT."""
        request = pb.SetPrincipalRolesRequest(
            name=self._names.principal(principal), roles=map(self._names.role, roles), etag=etag
        )
        return _answered(self._service.call(self._service.stub.SetPrincipalRoles, request, timeout))

    def disable(self, principal: str, *, timeout: float | None = None) -> Principal:
        """Refuses a principal and its sessions everywhere, within one second. Raises POLICY_LOCKOUT."""
        request = pb.DisablePrincipalRequest(name=self._names.principal(principal))
        return _answered(self._service.call(self._service.stub.DisablePrincipal, request, timeout))

    def enable(self, principal: str, *, timeout: float | None = None) -> Principal:
        """Lets a disabled principal call again, also in its sessions that have not expired."""
        request = pb.EnablePrincipalRequest(name=self._names.principal(principal))
        return _answered(self._service.call(self._service.stub.EnablePrincipal, request, timeout))

    def delete(self, principal: str, *, etag: str = "", timeout: float | None = None) -> str:
        """Deletes a principal with its client keys, for good; answers the event id. Raises POLICY_LOCKOUT."""
        request = pb.DeletePrincipalRequest(name=self._names.principal(principal), etag=etag)
        return self._service.call(self._service.stub.DeletePrincipal, request, timeout).event_id

    def revoke_sessions(self, principal: str, *, timeout: float | None = None) -> Principal:
        """Refuses every session that began before now, within one second; new ones may begin."""
        request = pb.RevokeSessionsRequest(name=self._names.principal(principal))
        return _answered(self._service.call(self._service.stub.RevokeSessions, request, timeout))

    def _wanted(
        self,
        wanted: principal_pb2.Principal,
        spiffe_ids: Sequence[str],
        oidc_bindings: Sequence[OidcBinding],
        trust_policy: str,
        max_session_duration: timedelta | None,
    ) -> principal_pb2.Principal:
        wanted.spiffe_ids.extend(spiffe_ids)
        for binding in oidc_bindings:
            wanted.oidc_bindings.add(
                provider=self._names.oidc_provider(binding.provider),
                subject=binding.subject,
                required_claims=binding.required_claims,
            )
        if trust_policy:
            wanted.role_settings.trust_policy = trust_policy
        if max_session_duration is not None:
            wanted.role_settings.max_session_duration.FromTimedelta(max_session_duration)
        return wanted


def _answered(answer: Answer[principal_pb2.Principal]) -> Principal:
    return _principal(answer.response, answer.event_id)


def _principal(principal: principal_pb2.Principal, event_id: str = "") -> Principal:
    settings = principal.role_settings
    longest = span(settings.max_session_duration) if principal.HasField("role_settings") else None
    return Principal(
        name=principal.name,
        kind=enum_text(principal_pb2.PrincipalKind, "PRINCIPAL_KIND_", principal.kind),
        description=principal.description,
        tags=dict(principal.tags),
        disabled=principal.disabled,
        roles=tuple(principal.roles),
        spiffe_ids=tuple(principal.spiffe_ids),
        oidc_bindings=tuple(
            OidcBinding(binding.provider, binding.subject, dict(binding.required_claims))
            for binding in principal.oidc_bindings
        ),
        trust_policy=settings.trust_policy,
        max_session_duration=longest,
        sessions_valid_after=moment(principal.sessions_valid_after),
        create_time=moment(principal.create_time),
        update_time=moment(principal.update_time),
        etag=principal.etag,
        event_id=event_id,
    )
