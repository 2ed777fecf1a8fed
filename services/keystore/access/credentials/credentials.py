"""Credentials: what each kind proves, and for how long."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine

from services.keystore.access.credentials.client_keys import require_valid
from services.keystore.access.credentials.later_notes import ClientKeyUses
from services.keystore.access.credentials.oidc import OidcTokens
from services.keystore.access.records import client_key_store, contents, oidc_provider_store, principal_store, store
from services.keystore.access.records.resources import ClientKey
from services.runtime.access.identity import Identities
from services.runtime.access.session_tokens import account_of
from services.runtime.call import Call, Principal
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.requests.wire import is_line
from services.runtime.storage.database import reading
from strongroom.access.v1.session_service_pb2 import (
    CREDENTIAL_KIND_CLIENT_KEY,
    CREDENTIAL_KIND_OIDC_TOKEN,
)

_MINUTE_US = 60 * 1_000_000


@dataclass(frozen=True, slots=True)
class Proof:
    """Whom a credential has proved. A session by it ends at `expires_us` at the latest, where that is set."""

    principal: Principal
    expires_us: int | None
    require_still: Callable[[Connection], None] = field(repr=False)
    """Raises as the credential's check does where it does not stand for the principal any more."""


def require_bound(connection: Connection, spiffe_id: str, principal: str) -> None:
    """Raises IDENTITY_UNKNOWN where a SPIFFE id does not stand for a principal any more."""
    if principal_store.identity_owner(connection, spiffe_id) != principal:
        raise StrongroomError(
            Reason.IDENTITY_UNKNOWN, "the certificate's SPIFFE id is bound to no principal", spiffe_id=spiffe_id
        )


class Credentials:
    """Checks credentials. Each method records the call's event, also of one that it refuses."""

    def __init__(
        self, engine: Engine, identities: Identities, oidc_tokens: OidcTokens, uses: ClientKeyUses, clock: Clock
    ) -> None:
        self._engine = engine
        self._identities = identities
        self._oidc_tokens = oidc_tokens
        self._uses = uses
        self._clock = clock

    def certificate(self, call: Call) -> Proof:
        """Whom the connection's certificate stands for. Raises UNAUTHENTICATED without one, IDENTITY_UNKNOWN."""
        if not call.certificate_id:
            raise StrongroomError(Reason.UNAUTHENTICATED, "the connection carries no client certificate")
        spiffe_id = call.certificate_id
        call.principal = principal = self._identities.from_certificate(spiffe_id)
        call.record(call.action, principal.name, principal.account)
        return Proof(
            principal,
            call.certificate_expires_us(),
            lambda connection: require_bound(connection, spiffe_id, principal.name),
        )

    def client_key(self, call: Call, name: ResourceName, secret: str) -> Proof:
        """Whom a client key stands for. Raises CREDENTIAL_INVALID, and does not tell why; ACCESS_RECORD_REFUSED."""
        now_us = self._clock.now_us()
        with reading(self._engine) as connection:
            known = store.account_exists(connection, name.account)
            found = client_key_store.credential(connection, str(name))
        event = call.record(call.action, str(name), name.account if known else "")
        found = require_valid(found, secret, now_us)
        self._require_account(name.account)
        call.principal = Principal(
            found.principal,
            name.account,
            credential=str(name),
            credential_kind=CREDENTIAL_KIND_CLIENT_KEY,
        )
        event.principal, event.credential = call.principal.name, call.principal.credential
        self._note_use(found, now_us)

        def require_still(connection: Connection) -> None:
            require_valid(client_key_store.credential(connection, str(name)), secret, now_us)

        return Proof(call.principal, found.expires_us, require_still)

    def oidc_token(self, call: Call, account: str, token: str) -> Proof:
        """Whom an issuer's token stands for. Raises TOKEN_INVALID, TOKEN_EXPIRED, OIDC_PROVIDER_UNREACHABLE; and
        IDENTITY_UNKNOWN for a subject that stands for nobody, or not without claims that the token lacks."""
        with reading(self._engine) as connection:
            known = store.account_exists(connection, account)
        event = call.record(call.action, f"accounts/{account}", account if known else "")
        provider = self._oidc_tokens.provider_of(account, token)
        event.resource = provider.name
        claims = self._oidc_tokens.verify(provider, token)
        subject = str(claims["sub"])
        bound = None
        # What could not be written in a binding is looked for in none.
        if is_line(subject):
            with reading(self._engine) as connection:
                bound = principal_store.bound_to_subject(connection, provider.name, subject)
        if bound is None or not _has(claims, bound[1].required_claims):
            raise _bound_to_nobody()
        self._require_account(account)
        call.principal = Principal(
            bound[0],
            account_of(bound[0]),
            credential=f"{provider.name}#{subject}",
            credential_kind=CREDENTIAL_KIND_OIDC_TOKEN,
        )
        event.principal, event.credential = call.principal.name, provider.name

        def require_still(connection: Connection) -> None:
            trusted = oidc_provider_store.oidc_provider(connection, provider.name)
            known = principal_store.bound_to_subject(connection, provider.name, subject)
            if trusted is None or trusted.disabled or known != bound:
                raise _bound_to_nobody()

        return Proof(call.principal, int(claims["exp"]) * 1_000_000, require_still)

    def _require_account(self, account: str) -> None:
        """Raises ACCESS_RECORD_REFUSED where an account lacks a record, or has an older one: this may be it."""
        with reading(self._engine) as connection:
            contents.require_of(connection, account)

    def _note_use(self, found: ClientKey, now_us: int) -> None:
        # Exact to the minute, so that a key in constant use is not written all the time.
        if found.used_us is None or found.used_us <= now_us - _MINUTE_US:
            self._uses.note(found.name, now_us)


def _bound_to_nobody() -> StrongroomError:
    return StrongroomError(Reason.IDENTITY_UNKNOWN, "the token's subject is bound to no principal")


def _has(claims: Mapping[str, Any], required: Mapping[str, str]) -> bool:
    return all(claims.get(name) == value for name, value in required.items())
