"""Handlers of OIDC providers."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from services.keystore.access.accounts.oidc_providers import OidcProviders
from services.keystore.access.credentials import key_sets
from services.keystore.access.credentials.https_documents import MAX_URL, DocumentError, is_url, json_object
from services.keystore.access.records import filters
from services.keystore.access.records.resources import OidcProvider, id_of
from services.runtime import clock
from services.runtime.call import Call
from services.runtime.errors import invalid, required, too_large
from services.runtime.outside import key_screening
from services.runtime.outside.key_screening import KeyRefusedError
from services.runtime.requests import names
from services.runtime.requests.fields import changed_paths, check_text
from services.runtime.requests.names import ResourceName
from services.runtime.requests.paging import Page
from services.runtime.storage.request_ids import repeatable
from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import principal_pb2

_MAX_AUDIENCES = 16
_MAX_AUDIENCE = 255
_MAX_DOCUMENT_BYTES = 65_536
# What a JWK has beside its public half (RFC 7518, section 6): nobody is to hand that in.
_PATHS = ("audiences", "jwks_uri", "ca_certificates", "static_jwks", "description", "disabled")


class OidcProviderHandlers:
    """The methods of AccessService about OIDC providers."""

    def __init__(self, oidc_providers: OidcProviders) -> None:
        self._oidc_providers = oidc_providers

    def CreateOidcProvider(self, request: pb.CreateOidcProviderRequest, call: Call) -> principal_pb2.OidcProvider:
        """A new provider."""
        account = names.parse_account(request.parent, "parent")
        if not request.oidc_provider_id:
            raise required("oidc_provider_id")
        provider_id = names.check_id(request.oidc_provider_id, "oidcProviders", "oidc_provider_id")
        asked = request.oidc_provider
        _check_url(asked.issuer, "oidc_provider.issuer")
        _check_audiences(asked)
        new = _wanted(str(ResourceName(account, "oidcProviders", provider_id)), asked)
        return provider_message(self._oidc_providers.create(call, new, repeatable(request, call)))

    def GetOidcProvider(self, request: pb.GetOidcProviderRequest, call: Call) -> principal_pb2.OidcProvider:
        """A provider."""
        return provider_message(self._oidc_providers.get(call, _name(request.name, "name")))

    def ListOidcProviders(self, request: pb.ListOidcProvidersRequest, call: Call) -> pb.ListOidcProvidersResponse:
        """A page of an account's providers, by id."""
        account = names.parse_account(request.parent, "parent")
        conditions = filters.of_oidc_providers(request.filter)
        page = Page.of(request, f"{request.parent}/oidcProviders?{request.filter}")
        found = self._oidc_providers.page(call, account, page.after, page.limit, conditions)
        providers, token = page.fill(found, provider_message, lambda provider: id_of(provider.name))
        return pb.ListOidcProvidersResponse(oidc_providers=providers, next_page_token=token)

    def UpdateOidcProvider(self, request: pb.UpdateOidcProviderRequest, call: Call) -> principal_pb2.OidcProvider:
        """Other audiences, other signing keys; disabled, or enabled again."""
        asked = request.oidc_provider
        name = _name(asked.name, "oidc_provider.name")
        paths = changed_paths(request.update_mask, _PATHS)
        if "audiences" in paths:
            _check_audiences(asked)
        return provider_message(self._oidc_providers.update(call, _wanted(name, asked), paths, asked.etag))

    def DeleteOidcProvider(self, request: pb.DeleteOidcProviderRequest, call: Call) -> Empty:
        """Deletes a provider that nobody is bound to."""
        self._oidc_providers.delete(call, _name(request.name, "name"), request.etag)
        return Empty()


def provider_message(provider: OidcProvider) -> principal_pb2.OidcProvider:
    """A provider as callers see it."""
    fetched_us = provider.fetched_us
    return principal_pb2.OidcProvider(
        name=provider.name,
        issuer=provider.issuer,
        audiences=provider.audiences,
        jwks_uri=provider.jwks_uri,
        ca_certificates=provider.ca_certificates,
        static_jwks=provider.static_jwks,
        description=provider.description,
        disabled=provider.disabled,
        fetch_time=clock.from_microseconds(fetched_us) if fetched_us is not None else None,
        fetch_error=provider.fetch_error,
        create_time=clock.from_microseconds(provider.created_us),
        update_time=clock.from_microseconds(provider.updated_us),
        etag=str(provider.revision),
    )


def _wanted(name: str, asked: principal_pb2.OidcProvider) -> OidcProvider:
    """What a request asks a provider to be; issuer and audiences are checked where they count."""
    if asked.jwks_uri:
        _check_url(asked.jwks_uri, "oidc_provider.jwks_uri")
    return OidcProvider(
        name,
        asked.issuer,
        tuple(asked.audiences),
        asked.jwks_uri,
        _check_certificates(asked.ca_certificates),
        _check_jwks(asked.static_jwks),
        check_text(asked.description, "oidc_provider.description"),
        asked.disabled,
    )


def _check_url(url: str, field: str) -> None:
    if not url:
        raise required(field)
    if len(url) > MAX_URL:
        raise too_large(field, MAX_URL, "characters")
    if not is_url(url):
        raise invalid(field, "is not an https URL")


def _check_audiences(asked: principal_pb2.OidcProvider) -> None:
    field = "oidc_provider.audiences"
    if not asked.audiences:
        raise required(field)
    if len(asked.audiences) > _MAX_AUDIENCES:
        raise too_large(field, _MAX_AUDIENCES, "entries")
    if any(not 1 <= len(audience) <= _MAX_AUDIENCE for audience in asked.audiences):
        raise invalid(field, f"are not of 1 to {_MAX_AUDIENCE} characters")


def _check_certificates(pem: str) -> str:
    field = "oidc_provider.ca_certificates"
    if len(pem.encode()) > _MAX_DOCUMENT_BYTES:
        raise too_large(field, _MAX_DOCUMENT_BYTES)
    if pem:
        try:
            key_screening.certificates(pem)
        except KeyRefusedError as refused:
            raise invalid(field, f"cannot be used: a certificate {refused}") from refused
    return pem


def _check_jwks(text: str) -> str:
    field = "oidc_provider.static_jwks"
    if len(text.encode()) > _MAX_DOCUMENT_BYTES:
        raise too_large(field, _MAX_DOCUMENT_BYTES)
    if text:
        try:
            document = json_object(text, field)
            keys = key_sets.read(document)
        except (DocumentError, ValueError) as error:
            raise invalid(field, "are not a JWK set (RFC 7517)") from error
        if any(isinstance(member, dict) and key_sets.PRIVATE_MEMBERS & member.keys() for member in document["keys"]):
            raise invalid(field, "hold a private or symmetric key")
        if not keys:
            raise invalid(field, "hold no public key that verifies signatures")
    return text


def _name(name: str, field: str) -> str:
    return str(names.parse(name, field, "oidcProviders"))
