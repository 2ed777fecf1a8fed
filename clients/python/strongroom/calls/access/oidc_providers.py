"""Issuers of OIDC tokens that an account accepts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import principal_pb2
from strongroom.access.v1.access_service_pb2_grpc import AccessServiceStub
from strongroom.calls.base import Part, mask_of, new_request_id, pages
from strongroom.convert import moment
from strongroom.transport import Answer


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """An issuer of OIDC tokens that the account accepts.

    `fetch_time` is when its signing keys were last fetched, and `fetch_error` why that failed. `event_id` is the id of
    the audit event of the call that answered it; it is empty in lists.
    """

    name: str
    issuer: str
    audiences: tuple[str, ...]
    jwks_uri: str
    ca_certificates: str
    static_jwks: str
    description: str
    disabled: bool
    fetch_time: datetime | None
    fetch_error: str
    create_time: datetime | None
    update_time: datetime | None
    etag: str
    event_id: str = ""


class OidcProviders(Part[AccessServiceStub]):
    """Keeps OIDC providers. `provider` is an id or a full name."""

    def create(
        self,
        provider_id: str,
        issuer: str,
        audiences: Sequence[str],
        *,
        jwks_uri: str = "",
        ca_certificates: str = "",
        static_jwks: str = "",
        description: str = "",
        timeout: float | None = None,
    ) -> OidcProvider:
        """Accepts an issuer's tokens for one of the audiences.

        Signing keys come from `jwks_uri`, by default the one that the issuer's discovery document names, over TLS that
        chains to `ca_certificates` (PEM; by default the system's), or from `static_jwks`. Raises ALREADY_EXISTS, also
        for an issuer that the account has.
        """
        parent, _, provider_id = self._names.parts(self._names.oidc_provider(provider_id), "oidc_provider")
        provider = principal_pb2.OidcProvider(
            issuer=issuer,
            audiences=audiences,
            jwks_uri=jwks_uri,
            ca_certificates=ca_certificates,
            static_jwks=static_jwks,
            description=description,
        )
        request = pb.CreateOidcProviderRequest(
            parent=parent, oidc_provider_id=provider_id, oidc_provider=provider, request_id=new_request_id()
        )
        return _answered(self._service.call(self._service.stub.CreateOidcProvider, request, timeout))

    def get(self, provider: str, *, timeout: float | None = None) -> OidcProvider:
        """Answers a provider. Raises OIDC_PROVIDER_NOT_FOUND."""
        request = pb.GetOidcProviderRequest(name=self._names.oidc_provider(provider))
        return _answered(self._service.call(self._service.stub.GetOidcProvider, request, timeout))

    def list(
        self,
        filter: str = "",  # noqa: A002  # the name in the contract
        *,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[OidcProvider]:
        """Lists the account's providers by name; `filter` is `issuer = "URL"` or `disabled = true`.

        Pages are fetched as they are needed, `limit` items at most; `timeout` is for each page.
        """

        def fetch(token: str, size: int) -> tuple[list[OidcProvider], str]:
            request = pb.ListOidcProvidersRequest(
                parent=self._names.account, page_size=size, page_token=token, filter=filter
            )
            answer = self._service.call(self._service.stub.ListOidcProviders, request, timeout).response
            return [_provider(provider) for provider in answer.oidc_providers], answer.next_page_token

        return pages(fetch, limit)

    def update(
        self,
        provider: str,
        *,
        audiences: Sequence[str] | None = None,
        jwks_uri: str | None = None,
        ca_certificates: str | None = None,
        static_jwks: str | None = None,
        description: str | None = None,
        disabled: bool | None = None,
        etag: str = "",
        timeout: float | None = None,
    ) -> OidcProvider:
        """Changes what is given of a provider, and has its signing keys fetched anew.

        `None` leaves a field as it is. With an `etag`, it is changed only if that is still current: ETAG_MISMATCH.
        """
        wanted = principal_pb2.OidcProvider(
            name=self._names.oidc_provider(provider),
            audiences=audiences or (),
            jwks_uri=jwks_uri or "",
            ca_certificates=ca_certificates or "",
            static_jwks=static_jwks or "",
            description=description or "",
            disabled=bool(disabled),
            etag=etag,
        )
        given = {
            "audiences": audiences,
            "jwks_uri": jwks_uri,
            "ca_certificates": ca_certificates,
            "static_jwks": static_jwks,
            "description": description,
            "disabled": disabled,
        }
        request = pb.UpdateOidcProviderRequest(oidc_provider=wanted, update_mask=mask_of(given))
        return _answered(self._service.call(self._service.stub.UpdateOidcProvider, request, timeout))

    def delete(self, provider: str, *, etag: str = "", timeout: float | None = None) -> str:
        """Deletes a provider; answers the event id. Raises RESOURCE_IN_USE while principals are bound to it."""
        request = pb.DeleteOidcProviderRequest(name=self._names.oidc_provider(provider), etag=etag)
        return self._service.call(self._service.stub.DeleteOidcProvider, request, timeout).event_id


def _answered(answer: Answer[principal_pb2.OidcProvider]) -> OidcProvider:
    return _provider(answer.response, answer.event_id)


def _provider(provider: principal_pb2.OidcProvider, event_id: str = "") -> OidcProvider:
    return OidcProvider(
        name=provider.name,
        issuer=provider.issuer,
        audiences=tuple(provider.audiences),
        jwks_uri=provider.jwks_uri,
        ca_certificates=provider.ca_certificates,
        static_jwks=provider.static_jwks,
        description=provider.description,
        disabled=provider.disabled,
        fetch_time=moment(provider.fetch_time),
        fetch_error=provider.fetch_error,
        create_time=moment(provider.create_time),
        update_time=moment(provider.update_time),
        etag=provider.etag,
        event_id=event_id,
    )
