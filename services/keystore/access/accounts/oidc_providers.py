"""Issuers of OIDC tokens that accounts accept."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from services.keystore.access.accounts.principals import BIND_IDENTITY
from services.keystore.access.editing import kinds
from services.keystore.access.editing.editing import AccessEditor, already_exists
from services.keystore.access.editing.plans import Needs
from services.keystore.access.records import oidc_provider_store, principal_store
from services.keystore.access.records.resources import OidcProvider, account_of
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.request_ids import Repeatable
from services.runtime.storage.sql_filters import Condition

_SET_ISSUER_KEYS = "access:SetIssuerKeys"
_ISSUER_PATHS = frozenset({"audiences", "jwks_uri", "ca_certificates", "static_jwks"})


class OidcProviders:
    """The OIDC providers of all accounts. Methods raise PERMISSION_DENIED, OIDC_PROVIDER_NOT_FOUND, ETAG_MISMATCH."""

    def __init__(self, editor: AccessEditor) -> None:
        self._editor = editor

    def create(self, call: Call, new: OidcProvider, repeatable: Repeatable | None) -> OidcProvider:
        """Adds a provider, which says whose tokens are accepted, and needs what changing that would. Raises
        ALREADY_EXISTS, also for an issuer that the account has; REQUEST_ID_REUSED."""
        account = account_of(new.name)
        self._editor.permitted(
            call, "access:CreateOidcProvider", kinds.ACCOUNT, f"accounts/{account}", about=new.name, field="parent"
        )
        self._editor.authorize(call, _SET_ISSUER_KEYS, new.resource)

        def check(connection: Connection, added: OidcProvider) -> None:
            present = oidc_provider_store.oidc_provider_of_issuer(connection, account, added.issuer)
            if present is not None and present.name != added.name:
                raise already_exists(f"a provider for {added.issuer}", "oidc_provider.issuer")

        needs = Needs(room=True)
        return self._editor.create(
            call, kinds.OIDC_PROVIDER, new, "oidc_provider_id", repeatable, check=check, needs=needs
        )

    def get(self, call: Call, name: str) -> OidcProvider:
        """A provider."""
        return self._editor.permitted(call, "access:GetOidcProvider", kinds.OIDC_PROVIDER, name)

    def page(
        self, call: Call, account: str, after: str, limit: int, conditions: Sequence[Condition]
    ) -> list[OidcProvider]:
        """An account's providers that meet the conditions, by name, from the first behind the id `after`."""
        self._editor.permitted(call, "access:ListOidcProviders", kinds.ACCOUNT, f"accounts/{account}", field="parent")
        with self._editor.reading() as connection:
            return oidc_provider_store.oidc_providers_page(connection, account, after, limit, conditions)

    def update(self, call: Call, wanted: OidcProvider, paths: Collection[str], etag: str) -> OidcProvider:
        """Changes the fields of `paths` to those of `wanted`; signing keys are fetched anew."""
        seen = self._editor.permitted(call, "access:UpdateOidcProvider", kinds.OIDC_PROVIDER, wanted.name)

        def needed(connection: Connection, present: OidcProvider) -> list[str]:
            enabled = "disabled" in paths and present.disabled and not wanted.disabled
            if not enabled and not _ISSUER_PATHS.intersection(paths):
                return []
            # Whoever says which tokens are a provider's can become every principal that they stand for.
            return [present.name, *principal_store.bound_to_provider(connection, present.name)]

        def permit(names: Sequence[str]) -> None:
            if wanted.name in names:
                self._editor.permitted(call, _SET_ISSUER_KEYS, kinds.OIDC_PROVIDER, wanted.name)
            reached = [name for name in names if name != wanted.name]
            self._editor.permitted_on_all(call, BIND_IDENTITY, kinds.PRINCIPAL, reached)

        rights = self._editor.rights(call, permit)
        with self._editor.reading() as connection:
            first = needed(connection, seen)
        rights.ask(first)

        def change(connection: Connection, present: OidcProvider) -> OidcProvider:
            rights.require(needed(connection, present))
            changed = {path: getattr(wanted, path) for path in paths}
            return replace(present, **changed, fetched_us=None, fetch_error="")

        removes = paths == {"disabled"} and wanted.disabled
        return self._editor.edit(
            call, kinds.OIDC_PROVIDER, wanted.name, change, etag=etag, removes=removes, rights=rights
        )

    def delete(self, call: Call, name: str, etag: str) -> None:
        """Deletes a provider. Raises RESOURCE_IN_USE while principals are bound to it."""
        self._editor.permitted(call, "access:DeleteOidcProvider", kinds.OIDC_PROVIDER, name)

        def remove(connection: Connection, present: OidcProvider) -> None:
            if principal_store.provider_in_use(connection, present.name):
                raise StrongroomError(Reason.RESOURCE_IN_USE, f"principals are bound to subjects of {name}")
            oidc_provider_store.delete_oidc_provider(connection, present.name)

        self._editor.delete(call, kinds.OIDC_PROVIDER, name, etag, remove)
