"""Handlers of users, workloads and roles."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty

from services.keystore.access.accounts.identities import MAX_IDENTITIES, SpiffeIds
from services.keystore.access.accounts.new_accounts import DEFAULT_SESSION_S
from services.keystore.access.accounts.principals import Principals
from services.keystore.access.records import filters
from services.keystore.access.records.resources import (
    KINDS,
    PRINCIPALS,
    ROLES,
    OidcBinding,
    Principal,
    RoleSettings,
    collection_of,
)
from services.runtime import clock
from services.runtime.call import Call
from services.runtime.errors import invalid, required, too_large
from services.runtime.requests import names
from services.runtime.requests.fields import changed_paths, check_text
from services.runtime.requests.names import ResourceName
from services.runtime.requests.paging import Page
from services.runtime.requests.tags import check_tags
from services.runtime.storage.request_ids import repeatable
from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import principal_pb2
from strongroom.access.v1.principal_pb2 import PrincipalKind

MAX_ROLES = 50
_MAX_SUBJECT_BYTES = 255
_MAX_CLAIMS = 8
_SHORTEST_SESSION_S = 15 * 60
_LONGEST_SESSION_S = 12 * 3600
_COLLECTIONS = {kind: collection for collection, kind in KINDS.items()}
_PATHS = ("description", "spiffe_ids", "oidc_bindings", "role_settings")


class PrincipalHandlers:
    """The methods of AccessService about principals."""

    def __init__(self, principals: Principals, spiffe_ids: SpiffeIds) -> None:
        self._principals = principals
        self._spiffe_ids = spiffe_ids

    def CreatePrincipal(self, request: pb.CreatePrincipalRequest, call: Call) -> principal_pb2.Principal:
        """A new user, workload or role."""
        account = names.parse_account(request.parent, "parent")
        if not request.principal_id:
            raise required("principal_id")
        collection = _collection(request.principal.kind)
        name = ResourceName(account, collection, names.check_id(request.principal_id, collection, "principal_id"))
        new = self._wanted(str(name), request.principal, _PATHS)
        return principal_message(self._principals.create(call, new, repeatable(request, call)))

    def GetPrincipal(self, request: pb.GetPrincipalRequest, call: Call) -> principal_pb2.Principal:
        """A principal."""
        return principal_message(self._principals.get(call, _name(request.name)))

    def ListPrincipals(self, request: pb.ListPrincipalsRequest, call: Call) -> pb.ListPrincipalsResponse:
        """A page of an account's principals, by name."""
        account = names.parse_account(request.parent, "parent")
        conditions = filters.of_principals(request.filter, account)
        page = Page.of(request, f"{request.parent}/principals?{request.filter}")
        found = self._principals.page(call, account, page.after, page.limit, conditions)
        principals, token = page.fill(found, principal_message, lambda principal: principal.name)
        return pb.ListPrincipalsResponse(principals=principals, next_page_token=token)

    def UpdatePrincipal(self, request: pb.UpdatePrincipalRequest, call: Call) -> principal_pb2.Principal:
        """Another description, other identities, other settings of a role."""
        asked = request.principal
        name = _name(asked.name, "principal.name")
        paths = changed_paths(request.update_mask, _PATHS)
        return principal_message(self._principals.update(call, self._wanted(name, asked, paths), paths, asked.etag))

    def SetPrincipalTags(self, request: pb.SetPrincipalTagsRequest, call: Call) -> principal_pb2.Principal:
        """Other tags."""
        tags = check_tags(request.tags, "tags")
        return principal_message(self._principals.set_tags(call, _name(request.name), tags, request.etag))

    def SetPrincipalRoles(self, request: pb.SetPrincipalRolesRequest, call: Call) -> principal_pb2.Principal:
        """Other roles that it holds all the time."""
        name = _name(request.name)
        roles = _roles(name, request.roles, "roles")
        return principal_message(self._principals.set_roles(call, name, roles, request.etag))

    def DisablePrincipal(self, request: pb.DisablePrincipalRequest, call: Call) -> principal_pb2.Principal:
        """Refuses a principal everywhere."""
        return principal_message(self._principals.disable(call, _name(request.name)))

    def EnablePrincipal(self, request: pb.EnablePrincipalRequest, call: Call) -> principal_pb2.Principal:
        """Ends what DisablePrincipal began."""
        return principal_message(self._principals.enable(call, _name(request.name)))

    def DeletePrincipal(self, request: pb.DeletePrincipalRequest, call: Call) -> Empty:
        """Deletes a principal for good."""
        self._principals.delete(call, _name(request.name), request.etag)
        return Empty()

    def RevokeSessions(self, request: pb.RevokeSessionsRequest, call: Call) -> principal_pb2.Principal:
        """Refuses every session that began before now."""
        return principal_message(self._principals.revoke_sessions(call, _name(request.name)))

    def _wanted(self, name: str, asked: principal_pb2.Principal, paths: Collection[str]) -> Principal:
        """What a request asks a principal to be, checked as far as `paths` are concerned."""
        of_role = collection_of(name) == ROLES
        for field in ("spiffe_ids", "oidc_bindings", "roles"):
            if of_role and getattr(asked, field):
                raise invalid(f"principal.{field}", "is for users and workloads alone")
        if not of_role and asked.HasField("role_settings"):
            raise invalid("principal.role_settings", "is for roles alone")
        return Principal(
            name,
            check_text(asked.description, "principal.description"),
            check_tags(asked.tags, "principal.tags"),
            _roles(name, asked.roles, "principal.roles"),
            self._spiffe_ids.checked(asked.spiffe_ids, "principal.spiffe_ids"),
            _oidc_bindings(name, asked.oidc_bindings),
            _role_settings(asked) if of_role and "role_settings" in paths else None,
        )


def principal_message(principal: Principal) -> principal_pb2.Principal:
    """A principal as callers see it."""
    after_us = principal.sessions_valid_after_us
    return principal_pb2.Principal(
        name=principal.name,
        kind=principal.kind,
        description=principal.description,
        tags=principal.tags,
        disabled=principal.disabled,
        roles=principal.roles,
        spiffe_ids=principal.spiffe_ids,
        oidc_bindings=[
            principal_pb2.OidcBinding(
                provider=binding.provider, subject=binding.subject, required_claims=binding.required_claims
            )
            for binding in principal.oidc_bindings
        ],
        role_settings=_settings_message(principal.role_settings),
        sessions_valid_after=clock.from_microseconds(after_us) if after_us is not None else None,
        create_time=clock.from_microseconds(principal.created_us),
        update_time=clock.from_microseconds(principal.updated_us),
        etag=str(principal.revision),
    )


def _settings_message(settings: RoleSettings | None) -> principal_pb2.RoleSettings | None:
    if settings is None:
        return None
    return principal_pb2.RoleSettings(
        trust_policy=settings.trust_policy, max_session_duration=Duration(seconds=settings.max_session_s)
    )


def _name(name: str, field: str = "name") -> str:
    return str(names.parse(name, field, *PRINCIPALS))


def _collection(kind: PrincipalKind.ValueType) -> str:
    if not kind:
        raise required("principal.kind")
    if kind not in _COLLECTIONS:
        raise invalid("principal.kind", "is none of USER, WORKLOAD, ROLE")
    return _COLLECTIONS[kind]


def _roles(name: str, asked: Collection[str], field: str) -> tuple[str, ...]:
    if len(asked) > MAX_ROLES:
        raise too_large(field, MAX_ROLES, "roles")
    account = names.parse(name, "name", *PRINCIPALS).account
    for role in asked:
        if names.parse(role, field, ROLES).account != account:
            raise invalid(field, "names a role of another account")
    return tuple(sorted(set(asked)))


def _oidc_bindings(name: str, asked: Collection[principal_pb2.OidcBinding]) -> tuple[OidcBinding, ...]:
    field = "principal.oidc_bindings"
    if len(asked) > MAX_IDENTITIES:
        raise too_large(field, MAX_IDENTITIES, "entries")
    bindings = sorted(_checked_bindings(name, asked), key=lambda binding: (binding.provider, binding.subject))
    if len({(binding.provider, binding.subject) for binding in bindings}) != len(bindings):
        raise invalid(field, "names the same subject of a provider twice")
    return tuple(bindings)


def _checked_bindings(name: str, asked: Iterable[principal_pb2.OidcBinding]) -> Iterable[OidcBinding]:
    field = "principal.oidc_bindings"
    account = names.parse(name, "name", *PRINCIPALS).account
    for binding in asked:
        if names.parse(binding.provider, f"{field}.provider", "oidcProviders").account != account:
            raise invalid(f"{field}.provider", "is of another account")
        if not binding.subject:
            raise required(f"{field}.subject")
        if len(binding.subject.encode()) > _MAX_SUBJECT_BYTES:
            raise too_large(f"{field}.subject", _MAX_SUBJECT_BYTES)
        if len(binding.required_claims) > _MAX_CLAIMS:
            raise too_large(f"{field}.required_claims", _MAX_CLAIMS, "claims")
        yield OidcBinding(binding.provider, binding.subject, dict(binding.required_claims))


def _role_settings(asked: principal_pb2.Principal) -> RoleSettings:
    field = "principal.role_settings"
    settings = asked.role_settings
    if not settings.trust_policy:
        raise required(f"{field}.trust_policy")
    longest = settings.max_session_duration
    if not settings.HasField("max_session_duration"):
        return RoleSettings(settings.trust_policy, DEFAULT_SESSION_S)
    if longest.nanos or not _SHORTEST_SESSION_S <= longest.seconds <= _LONGEST_SESSION_S:
        raise invalid(f"{field}.max_session_duration", "is not 15 minutes to 12 hours in whole seconds")
    return RoleSettings(settings.trust_policy, longest.seconds)
