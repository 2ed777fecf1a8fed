"""Tokens of OIDC issuers, exchanged for sessions: real issuers over TLS, whose keys rotate."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from deploy.dev.mesh import Mesh
from strongroom import Client, OidcTokenSession
from strongroom.calls.access.sessions import Session
from tests.support import access
from tests.support.clients import client_by, reason_of, refusal, until
from tests.support.oidc_issuer import DISCOVERY, JWKS, Issuer, send

SUBJECT = "system:serviceaccount:shop:orders"


@pytest.fixture
def issuer(mesh: Mesh, client: Client) -> Iterator[Issuer]:
    with access.trusted_for_now(client, mesh) as issuer:
        yield issuer


@pytest.fixture
def provider(client: Client, issuer: Issuer) -> str:
    return access.provider(client, issuer)


@pytest.fixture
def workload(client: Client, provider: str) -> str:
    name = access.workload(client)
    access.bind(client, name, provider, SUBJECT)
    return name


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    return tmp_path / "token"


@pytest.fixture
def exchange(client: Client, token_file: Path) -> Exchange:
    return Exchange(client, token_file)


class Exchange:
    """Exchanges tokens, one after the other."""

    def __init__(self, client: Client, path: Path) -> None:
        self._client = client
        self._path = path

    def __call__(self, token: str, account: str = "default") -> Session:
        self._path.write_text(token)
        return self._client.access.sessions.create(OidcTokenSession(self._path, account))


def test_a_token_is_exchanged_for_a_session_of_its_subjects_principal(
    mesh: Mesh, issuer: Issuer, provider: str, workload: str, token_file: Path, key: str
) -> None:
    token_file.write_text(issuer.token(SUBJECT))
    with client_by(mesh, OidcTokenSession(token_file, "default")) as client:
        who = client.access.whoami()
        until(lambda: reason_of(lambda: client.encrypt(key, b"rows")) == "")

    assert (who.principal, who.credential_kind) == (workload, "OIDC_TOKEN")
    assert who.credential == f"{provider}#{SUBJECT}"
    assert issuer.fetched == [DISCOVERY, JWKS]


@pytest.mark.parametrize(
    "algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
)
def test_each_algorithm_of_the_contract_verifies(
    exchange: Exchange, issuer: Issuer, workload: str, algorithm: str
) -> None:
    issuer.rotate(algorithm)
    assert exchange(issuer.token(SUBJECT)).principal == workload


def test_a_session_ends_with_the_token(exchange: Exchange, issuer: Issuer, workload: str) -> None:
    del workload
    ends = int(time.time()) + 120
    session = exchange(issuer.token(SUBJECT, exp=ends))
    assert session.expire_time is not None
    assert session.expire_time.timestamp() == ends


def test_keys_are_fetched_once_and_again_for_a_new_key(exchange: Exchange, issuer: Issuer, workload: str) -> None:
    del workload
    for _ in range(3):
        exchange(issuer.token(SUBJECT))
    assert issuer.fetched.count(JWKS) == 1
    issuer.rotate()
    exchange(issuer.token(SUBJECT))
    assert issuer.fetched.count(JWKS) == 2


def test_made_up_key_ids_make_nobody_fetch_all_the_time(exchange: Exchange, issuer: Issuer, workload: str) -> None:
    del workload
    exchange(issuer.token(SUBJECT))
    for number in range(5):
        made_up = issuer.token(SUBJECT, header={"kid": f"made-up-{number}"})
        assert reason_of(partial(exchange, made_up)) == "TOKEN_INVALID"
    assert issuer.fetched.count(JWKS) == 2


def test_without_a_key_id_the_only_key_is_meant(exchange: Exchange, issuer: Issuer, workload: str) -> None:
    without = issuer.token(SUBJECT, header={})
    assert exchange(without).principal == workload


def test_an_issuer_that_cannot_be_reached_may_give_its_keys_beforehand(
    exchange: Exchange, client: Client, issuer: Issuer
) -> None:
    url = "https://unreachable.example"
    given = json.dumps({"keys": issuer.keys})
    provider = access.provider(client, issuer, url=url, ca_certificates="", static_jwks=given)
    workload = access.workload(client)
    access.bind(client, workload, provider, SUBJECT)

    assert exchange(issuer.token(SUBJECT, iss=url)).principal == workload
    assert issuer.fetched == []


def test_the_keys_may_be_elsewhere_than_discovery_says(
    exchange: Exchange, client: Client, issuer: Issuer, provider: str, workload: str
) -> None:
    client.access.oidc_providers.update(provider, jwks_uri=issuer.url + JWKS)
    assert exchange(issuer.token(SUBJECT)).principal == workload
    assert issuer.fetched == [JWKS]


def test_a_changed_provider_has_its_keys_fetched_anew(
    exchange: Exchange, client: Client, issuer: Issuer, provider: str, workload: str
) -> None:
    del workload
    exchange(issuer.token(SUBJECT))
    client.access.oidc_providers.update(provider, audiences=["else", "strongroom"])
    exchange(issuer.token(SUBJECT))
    assert issuer.fetched.count(JWKS) == 2


def test_claims_that_a_binding_requires_must_be_there(
    exchange: Exchange, client: Client, issuer: Issuer, provider: str
) -> None:
    workload = access.workload(client)
    access.bind(client, workload, provider, "repo:shop/orders", environment="production")

    assert exchange(issuer.token("repo:shop/orders", environment="production")).principal == workload
    for claims in ({}, {"environment": "test"}, {"environment": ["production"]}):
        token = issuer.token("repo:shop/orders", **claims)
        assert reason_of(partial(exchange, token)) == "IDENTITY_UNKNOWN"


def test_a_subject_that_is_bound_to_nobody_is_refused(exchange: Exchange, issuer: Issuer, workload: str) -> None:
    del workload
    assert reason_of(lambda: exchange(issuer.token(SUBJECT + "s"))) == "IDENTITY_UNKNOWN"


def test_a_disabled_provider_accepts_nothing(
    exchange: Exchange, client: Client, issuer: Issuer, provider: str, workload: str
) -> None:
    del workload
    client.access.oidc_providers.update(provider, disabled=True)
    assert reason_of(lambda: exchange(issuer.token(SUBJECT))) == "TOKEN_INVALID"


def test_another_account_does_not_know_the_issuer(
    exchange: Exchange, client: Client, issuer: Issuer, workload: str, name: str
) -> None:
    del workload
    client.access.accounts.create(name)
    for account in (name, "nowhere"):
        assert reason_of(partial(exchange, issuer.token(SUBJECT), account)) == "TOKEN_INVALID"


def test_an_issuers_certificate_is_checked(
    exchange: Exchange, client: Client, issuer: Issuer, provider: str, workload: str
) -> None:
    del workload
    client.access.oidc_providers.update(provider, ca_certificates="")  # the system's, which know nothing of this issuer
    error = refusal(lambda: exchange(issuer.token(SUBJECT)))

    assert error.reason == "OIDC_PROVIDER_UNREACHABLE"
    until(lambda: "certificate" in client.access.oidc_providers.get(provider).fetch_error)
    assert client.audit.events.get(error.event_id).resource == provider


@pytest.mark.parametrize("trouble", ["redirect", "missing", "huge", "no json", "no set", "other issuer"])
def test_an_issuer_in_trouble_is_named_in_the_provider_until_it_is_well(
    exchange: Exchange, client: Client, issuer: Issuer, provider: str, workload: str, trouble: str
) -> None:
    del workload
    path, answer, told = {
        "redirect": (JWKS, lambda request: send(request, 302, b"", Location="/else"), "status 302"),
        "missing": (JWKS, lambda request: send(request, 404, b""), "status 404"),
        "huge": (JWKS, lambda request: send(request, 200, b" " * 70_000), "larger than 65536"),
        "no json": (JWKS, lambda request: send(request, 200, b"<html>"), "no JSON object"),
        "no set": (JWKS, lambda request: send(request, 200, b"{}"), "no key set"),
        "other issuer": (DISCOVERY, lambda request: send(request, 200, b'{"issuer": "https://else"}'), "another"),
    }[trouble]
    issuer.answers = {path: answer}
    assert reason_of(lambda: exchange(issuer.token(SUBJECT))) == "OIDC_PROVIDER_UNREACHABLE"
    until(lambda: told in client.access.oidc_providers.get(provider).fetch_error)
    troubled = client.access.oidc_providers.get(provider)
    assert (troubled.fetch_time, "/else" in issuer.fetched) == (None, False)

    issuer.answers = {}
    client.access.oidc_providers.update(provider, description="changed, so that nobody waits before trying again")
    exchange(issuer.token(SUBJECT))
    until(lambda: client.access.oidc_providers.get(provider).fetch_time is not None)
    assert client.access.oidc_providers.get(provider).fetch_error == ""


def test_a_token_in_full_is_required(exchange: Exchange) -> None:
    assert refusal(lambda: exchange("")).field == "oidc_token.token"
    error = refusal(lambda: exchange("a" * 16_385))
    assert (error.reason, error.field) == ("FIELD_TOO_LARGE", "oidc_token.token")
