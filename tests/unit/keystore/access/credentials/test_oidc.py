"""Tokens of OIDC issuers that a stranger sends: they do not tell which issuers an account trusts."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import pytest
from sqlalchemy import Engine, event

from services.keystore.access.accounts import new_accounts
from services.keystore.access.credentials.issuer_keys import IssuerKeys
from services.keystore.access.credentials.oidc import OidcTokens
from services.keystore.access.records import oidc_provider_store
from services.keystore.access.records.resources import Account, OidcProvider
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.database import transaction
from tests.support.clocks import StillClock

NOW = 1_800_000_000
TRUSTED, OTHER = "https://trusted.example", "https://other.example"


class Away:
    """Issuers whose keys cannot be fetched."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def find(self, provider: OidcProvider, header: Mapping[str, Any]) -> None:
        assert header["alg"] == "RS256"
        self.asked.append(provider.issuer)
        raise StrongroomError(Reason.OIDC_PROVIDER_UNREACHABLE, "cannot be fetched")


class NeverAsked:
    """Fails where an issuer's keys are looked for."""

    def find(self, provider: OidcProvider, header: Mapping[str, Any]) -> None:
        raise AssertionError("an issuer's keys were looked for")


@pytest.fixture
def tokens(engine: Engine) -> OidcTokens:
    with transaction(engine) as connection:
        new_accounts.add(connection, Account("accounts/acme", "", {}), "ann", [], NOW)
        provider = OidcProvider("accounts/acme/oidcProviders/p", TRUSTED, ("x",), "", "", "", "")
        oidc_provider_store.insert_oidc_provider(connection, provider)
    return OidcTokens(engine, cast(IssuerKeys, NeverAsked()), StillClock(NOW * 1_000_000))


def token(issuer: str, header: Mapping[str, Any]) -> str:
    claims = {"iss": issuer, "aud": "x", "sub": "s", "exp": NOW + 60}
    parts = [json.dumps(part).encode() for part in (header, claims)]
    return ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in (*parts, b"signature"))


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """What is asked of the database meanwhile."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize(
    "header",
    [
        *({"alg": name} for name in ("none", "None", "NONE", "HS256", "HS512", "ES256K", "RS1", "", "dir", "x")),
        *({"alg": value} for value in (None, 1, ["RS256"], {"RS256": 1})),
        {},
        {"alg": "none", "kid": "k", "typ": "JWT"},
        {"alg": "RS256", "crit": ["exp"], "b64": False},
    ],
    ids=str,
)
def test_an_algorithm_that_is_not_taken_does_not_tell_which_issuers_are_trusted(
    engine: Engine, tokens: OidcTokens, header: Mapping[str, Any]
) -> None:
    told = []
    for issuer in (TRUSTED, OTHER):
        with statements(engine) as asked, pytest.raises(StrongroomError) as refused:
            tokens.verify(tokens.provider_of("acme", token(issuer, header)), token(issuer, header))
        told.append((refused.value.reason, refused.value.message, refused.value.metadata, asked))
    assert told[0] == told[1]
    assert told[0][0] is Reason.TOKEN_INVALID


def test_an_issuer_that_cannot_be_asked_does_not_tell_that_it_is_trusted(engine: Engine, tokens: OidcTokens) -> None:
    del tokens
    away = Away()
    asking = OidcTokens(engine, cast(IssuerKeys, away), StillClock(NOW * 1_000_000))
    told = []
    for issuer in (TRUSTED, OTHER, "https://another.example"):
        sent = token(issuer, {"alg": "RS256", "kid": "any"})
        with statements(engine) as asked, pytest.raises(StrongroomError) as refused:
            asking.verify(asking.provider_of("acme", sent), sent)
        told.append((refused.value.reason, refused.value.message, refused.value.metadata, asked))
    assert told[0] == told[1] == told[2]
    # As often, too.
    assert away.asked == [TRUSTED] * 3
