"""Tokens of OIDC issuers (OpenID Connect Core 1.0, section 3.1.3.7), such as Kubernetes service accounts'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import jwt
from sqlalchemy import Engine

from services.keystore.access.credentials import key_sets
from services.keystore.access.credentials.issuer_keys import IssuerKeys
from services.keystore.access.records import oidc_provider_store
from services.keystore.access.records.resources import OidcProvider
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.wire import is_line
from services.runtime.storage.database import reading

MAX_TOKEN_BYTES = 16 * 1024

# Issuers' clocks differ a little from ours. A token is not used beyond its end for that.
_LEEWAY_SECONDS = 60
# From among so many one stands for an issuer that is not trusted.
_STAND_INS = 16
_NOT_ACCEPTED = "the token is not one that this account accepts"


class OidcTokens:
    """Verifies tokens against the issuers that accounts accept."""

    def __init__(self, engine: Engine, keys: IssuerKeys, clock: Clock) -> None:
        self._engine = engine
        self._keys = keys
        self._clock = clock

    def provider_of(self, account: str, token: str) -> OidcProvider:
        """The provider whose issuer a token names, before anything of it is verified. Raises TOKEN_INVALID, and
        OIDC_PROVIDER_UNREACHABLE where that may be told of an issuer that the account does not trust.

        A token that no issuer could have signed is refused before a provider is looked for, so that nobody learns from
        it which issuers are trusted.
        """
        try:
            header = jwt.get_unverified_header(token)
            if str(header.get("alg")) not in key_sets.ALGORITHMS:
                raise _invalid()
            issuer = str(jwt.decode(token, options={"verify_signature": False}).get("iss", ""))
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise _invalid() from error
        if not is_line(issuer):
            # No issuer is called that, nor would every database look for it.
            raise _invalid()
        with reading(self._engine) as connection:
            provider = oidc_provider_store.oidc_provider_of_issuer(connection, account, issuer)
            trusted = oidc_provider_store.enabled_oidc_providers(connection, account, _STAND_INS)
        if provider is None or provider.disabled:
            self._look_in_vain(trusted, issuer, header)
            raise _invalid()
        return provider

    def verify(self, provider: OidcProvider, token: str) -> Mapping[str, Any]:
        """The claims of a token of this provider. Raises TOKEN_INVALID, TOKEN_EXPIRED or OIDC_PROVIDER_UNREACHABLE."""
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.find(provider, header)
            if key is None:
                raise _invalid()
            claims = jwt.decode(
                token,
                key.public,
                algorithms=key.algorithms,
                audience=provider.audiences,
                issuer=provider.issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["iss", "aud", "sub", "exp"], "enforce_minimum_key_length": True},
            )
            ended = int(claims["exp"]) <= self._clock.now_us() // 1_000_000
        except jwt.ExpiredSignatureError as error:
            raise _expired() from error
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            raise _invalid() from error
        if ended:
            raise _expired()
        return claims

    def _look_in_vain(self, trusted: Sequence[OidcProvider], issuer: str, header: Mapping[str, Any]) -> None:
        """Answers, and takes as long, as if an issuer were one of those that the account trusts: each time the same."""
        if trusted:
            number = int.from_bytes(sha256(issuer.encode()).digest()[:8], "big")
            self._keys.find(trusted[number % len(trusted)], header)


def _invalid() -> StrongroomError:
    # In the same words for an issuer that is not known and for a signature that is not its: whoever asks is a stranger.
    return StrongroomError(Reason.TOKEN_INVALID, _NOT_ACCEPTED)


def _expired() -> StrongroomError:
    return StrongroomError(Reason.TOKEN_EXPIRED, "the token has expired")
