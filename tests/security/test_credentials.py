"""Credentials out of place, sessions that should have ended, and narrowing that somebody tries to leave behind."""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.warnings import InsecureKeyLengthWarning

from deploy.dev.certificates import DevelopmentAuthority
from deploy.dev.mesh import Mesh
from strongroom import AssumedRole, Client, ClientCertificate, ClientKeySession, OidcTokenSession, SessionToken
from tests.security.test_callers import random_bytes, refused
from tests.support import access
from tests.support.access import ASSUME_ROLE, EVERYTHING
from tests.support.clients import client_by, client_of, reason_of, refusal, until
from tests.support.oidc_issuer import Issuer, public_jwk

DECRYPT = 'permit (principal, action == Strongroom::Action::"crypto:Decrypt", resource);'
SECRETS = 'permit (principal, action in Strongroom::Action::"secrets", resource);'
SUBJECT = "system:serviceaccount:shop:orders"


@pytest.fixture
def workload(client: Client) -> str:
    return access.workload(client)


@pytest.fixture
def credential(client: Client, workload: str) -> ClientKeySession:
    return access.client_key(client, workload)


# --- client keys


def test_a_deleted_client_key_is_refused_and_its_sessions_end_within_a_second(
    mesh: Mesh, client: Client, credential: ClientKeySession
) -> None:
    role = access.role(client)
    with client_by(mesh, credential) as caller:
        until(lambda: reason_of(lambda: caller.generate_random(16)) == "")
        session = caller.access.sessions.create(credential)
        assumed = caller.access.sessions.assume_role(role, "s")
    for token in (session.token, assumed.token):
        until(partial(accepted, mesh, token))

    client.access.client_keys.delete(credential.name)
    access.settle()

    replayed = refusal(lambda: client.access.sessions.create(credential))
    event = client.audit.events.get(replayed.event_id)
    assert (replayed.reason, event.outcome, event.resource) == ("CREDENTIAL_INVALID", "DENIED", credential.name)
    for token in (session.token, assumed.token):
        with client_by(mesh, SessionToken(token)) as late:
            for use in (
                late.access.whoami,
                lambda late=late: late.generate_random(16),
                lambda late=late: late.access.sessions.assume_role(role, "s"),
            ):
                error = refusal(use)
                assert error.reason == "TOKEN_INVALID"
                assert client.audit.events.get(error.event_id).outcome == "DENIED"


def test_a_disabled_client_keys_sessions_stop_and_go_on(
    mesh: Mesh, client: Client, credential: ClientKeySession
) -> None:
    token = client.access.sessions.create(credential).token
    until(partial(accepted, mesh, token))
    client.access.client_keys.update(credential.name, disabled=True)
    access.settle()
    assert not accepted(mesh, token)
    client.access.client_keys.update(credential.name, disabled=False)
    access.settle()
    assert accepted(mesh, token)


# --- principals


def test_sessions_end_with_whoever_assumed_the_role(mesh: Mesh, client: Client, workload: str) -> None:
    credential = access.client_key(client, workload)
    role = access.role(client)
    with client_by(mesh, AssumedRole(credential, role, "s")) as caller:
        until(lambda: reason_of(lambda: caller.generate_random(16)) == "")
        client.access.principals.disable(workload)
        access.settle()
        assert reason_of(lambda: caller.generate_random(16)) == "PRINCIPAL_DISABLED"
        assert reason_of(caller.access.whoami) == "PRINCIPAL_DISABLED"
        client.access.principals.enable(workload)
        access.settle()
        caller.generate_random(16)


@pytest.mark.parametrize("whose", ["role", "assumer"])
def test_revoked_sessions_end_and_new_ones_begin(mesh: Mesh, client: Client, workload: str, whose: str) -> None:
    credential = access.client_key(client, workload)
    role = access.role(client)
    with client_by(mesh, credential) as caller:
        until(lambda: reason_of(lambda: caller.access.sessions.assume_role(role, "s")) == "")
        before = caller.access.sessions.assume_role(role, "s").token
        until(partial(accepted, mesh, before))

        client.access.principals.revoke_sessions(role if whose == "role" else workload)
        access.settle()

        assert not accepted(mesh, before)
        assert accepted(mesh, caller.access.sessions.assume_role(role, "s").token)


def test_a_revoked_session_begets_no_other_not_even_at_once(mesh: Mesh, client: Client, workload: str) -> None:
    first, second = access.role(client), access.role(client)
    with client_by(mesh, access.client_key(client, workload)) as caller:
        until(lambda: reason_of(lambda: caller.access.sessions.assume_role(first, "s")) == "")
        token = caller.access.sessions.assume_role(first, "s").token
    with client_by(mesh, SessionToken(token)) as chained:
        until(lambda: reason_of(lambda: chained.access.sessions.assume_role(second, "s")) == "")
        client.access.principals.revoke_sessions(workload)
        assert reason_of(lambda: chained.access.sessions.assume_role(second, "s")) == "TOKEN_INVALID"


def test_a_deleted_principals_session_ends(
    mesh: Mesh, client: Client, workload: str, credential: ClientKeySession
) -> None:
    token = client.access.sessions.create(credential).token
    until(partial(accepted, mesh, token))
    client.access.principals.delete(workload)
    access.settle()
    assert not accepted(mesh, token)
    assert reason_of(lambda: client.access.sessions.create(credential)) == "CREDENTIAL_INVALID"


def succeeds(use: Callable[[], object]) -> bool:
    return reason_of(use) == ""


def accepted(mesh: Mesh, token: str) -> bool:
    with client_by(mesh, SessionToken(token)) as client:
        return reason_of(lambda: client.generate_random(16)) == ""


# --- certificates


def test_a_spiffe_id_of_another_trust_domain_is_nobody(mesh: Mesh, client: Client) -> None:
    # The same authority has signed it: only the name is foreign.
    foreign = DevelopmentAuthority(mesh.authority.trust.parent, trust_domain="other.domain").issue("user/foreign")
    code, reason = refused(lambda: random_bytes(mesh, foreign))
    assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_UNKNOWN")

    with client_by(mesh, ClientCertificate(foreign.certificate, foreign.key)) as stranger:
        for use in (stranger.access.whoami, stranger.access.sessions.create):
            error = refusal(use)
            assert error.reason == "IDENTITY_UNKNOWN"
            (event,) = client.audit.events.list(parent="services/audit", trace_id=error.trace_id)
            assert (event.outcome, event.principal) == ("DENIED", "")


def test_a_certificate_cannot_be_exchanged_where_none_came(mesh: Mesh, client: Client) -> None:
    token = client.access.sessions.create().token
    with client_by(mesh, SessionToken(token)) as without:
        assert reason_of(without.access.sessions.create) == "UNAUTHENTICATED"


# --- narrowing


def test_a_chain_of_roles_stays_within_every_session_policy_before(mesh: Mesh, client: Client, key: str) -> None:
    ciphertext = client.encrypt(key, b"rows").ciphertext
    first, second = access.role(client), access.role(client)
    access.settle()
    narrow = client.access.sessions.assume_role(first, "s", session_policy=DECRYPT + ASSUME_ROLE)
    with client_by(mesh, SessionToken(narrow.token)) as caller:
        wider = caller.access.sessions.assume_role(second, "s", session_policy=EVERYTHING)
        plain = caller.access.sessions.assume_role(second, "s")
    for token in (wider.token, plain.token):
        with client_by(mesh, SessionToken(token)) as chained:
            until(partial(succeeds, partial(chained.decrypt, ciphertext)))
            error = refusal(partial(chained.encrypt, key, b"rows"))
            event = client.audit.events.get(error.event_id)
            assert (error.reason, event.decided_by) == ("PERMISSION_DENIED", "session-policy")


def test_a_session_policy_that_does_not_permit_it_keeps_from_assuming(mesh: Mesh, client: Client) -> None:
    role = access.role(client)
    narrow = client.access.sessions.create(session_policy=DECRYPT)
    with client_by(mesh, SessionToken(narrow.token)) as caller:
        assert reason_of(lambda: caller.access.sessions.assume_role(role, "s")) == "PERMISSION_DENIED"


def test_what_narrows_a_session_narrows_what_a_service_does_for_it(mesh: Mesh, client: Client, name: str) -> None:
    client.secrets.create(name, b"value")
    whole = client.access.sessions.create().token
    narrow = client.access.sessions.create(session_policy=SECRETS).token
    with client_by(mesh, SessionToken(whole)) as caller:
        assert caller.secrets.get_value(name).value == b"value"
    with client_by(mesh, SessionToken(narrow)) as caller:
        assert reason_of(lambda: caller.secrets.get_value(name, stage="None")) == "STAGE_NOT_FOUND"
        error = refusal(lambda: caller.secrets.get_value(name))
    assert (error.reason, error.metadata["action"]) == ("PERMISSION_DENIED", "crypto:Decrypt")
    denied = next(
        event for event in client.audit.events.list(trace_id=error.trace_id) if event.service.endswith("CryptoService")
    )
    assert (denied.decided_by, denied.via_service) == ("session-policy", "services/secrets")


# --- other accounts


def test_an_agent_of_two_customers_cannot_be_talked_into_acting_for_the_other(
    mesh: Mesh, client: Client, tenant: Client
) -> None:
    agent = access.workload(client, permits=ASSUME_ROLE)
    trust = f"""permit (
        principal == Strongroom::Workload::"{agent}", action == Strongroom::Action::"access:AssumeRole", resource
    ) when {{ context.external_id == "agreed-with-this-customer" }};"""
    role = access.role(tenant, trust=trust)
    stranger = access.client_key(client, access.workload(client, permits=ASSUME_ROLE))
    access.settle()
    with client_by(mesh, access.client_key(client, agent)) as caller:
        for external_id in ("", "agreed-with-another"):
            error = refusal(partial(caller.access.sessions.assume_role, role, "s", external_id=external_id))
            # The answer names the event in the caller's own log; the customer has one of the same trace.
            assert client.audit.events.get(error.event_id).outcome == "DENIED"
            (event,) = tenant.audit.events.list(trace_id=error.trace_id)
            assert (error.reason, event.outcome, event.principal) == ("PERMISSION_DENIED", "DENIED", agent)
        session = caller.access.sessions.assume_role(role, "for-the-customer", external_id="agreed-with-this-customer")
    with client_by(mesh, stranger) as other:
        agreed = partial(other.access.sessions.assume_role, role, "s", external_id="agreed-with-this-customer")
        assert reason_of(agreed) == "PERMISSION_DENIED"
    # The trust policy is the customer's; permission on the agent's own side is needed all the same.
    assert reason_of(partial(client.access.sessions.assume_role, role, "s")) == "PERMISSION_DENIED"

    key = tenant.keys.create("payments").name
    with client_by(mesh, SessionToken(session.token)) as acting:
        until(lambda: reason_of(lambda: acting.encrypt(key, b"rows")) == "")
        used = tenant.audit.events.get(acting.encrypt(key, b"rows").event_id)
        assert (used.principal, used.session_name) == (role, "for-the-customer")
        elsewhere = "accounts/default/keys/strongroom-secrets"
        assert reason_of(lambda: acting.encrypt(elsewhere, b"rows")) == "PERMISSION_DENIED"


# --- tokens of OIDC issuers


class Exchange:
    """Exchanges an issuer's tokens for the shop's workload."""

    def __init__(self, client: Client, issuer: Issuer, path: Path) -> None:
        self.provider = access.provider(client, issuer)
        access.bind(client, access.workload(client), self.provider, SUBJECT)
        self._client = client
        self._path = path

    def __call__(self, token: str) -> str:
        """Why a token is refused, and that the refusal is an event."""
        self._path.write_text(token)
        error = refusal(lambda: self._client.access.sessions.create(OidcTokenSession(self._path, "default")))
        event = self._client.audit.events.get(error.event_id)
        assert (event.outcome, event.reason, event.principal) == ("DENIED", error.reason, "")
        return error.reason


@pytest.fixture
def issuer(mesh: Mesh, client: Client) -> Any:
    with access.trusted_for_now(client, mesh) as issuer:
        yield issuer


def unsigned(issuer: Issuer) -> str:
    claims = jwt.decode(issuer.token(SUBJECT), options={"verify_signature": False})
    return jwt.encode(claims, "", algorithm="none", headers={"kid": issuer.keys[0]["kid"]})


def hmac_with_the_public_key(issuer: Issuer) -> str:
    claims = jwt.decode(issuer.token(SUBJECT), options={"verify_signature": False})
    public = jwt.PyJWK(issuer.keys[0], "RS256").key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    # PyJWT itself signs nothing with such a secret.
    unsigned, _, _ = jwt.encode(claims, "k" * 32, "HS256", headers={"kid": issuer.keys[0]["kid"]}).rpartition(".")
    tag = hmac.digest(public, unsigned.encode(), "sha256")
    return f"{unsigned}.{base64.urlsafe_b64encode(tag).rstrip(b'=').decode()}"


def signed_by_another(issuer: Issuer) -> str:
    claims = jwt.decode(issuer.token(SUBJECT), options={"verify_signature": False})
    other = rsa.generate_private_key(65537, 2048)
    return jwt.encode(claims, other, algorithm="RS256", headers={"kid": issuer.keys[0]["kid"]})


def weak(issuer: Issuer) -> str:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505  # what is to be refused
    issuer.keys = [{**public_jwk(key), "kid": "weak"}]
    claims = jwt.decode(issuer.token(SUBJECT), options={"verify_signature": False})
    with pytest.warns(InsecureKeyLengthWarning):
        return jwt.encode(claims, key, algorithm="RS256", headers={"kid": "weak"})


def for_encryption(issuer: Issuer) -> str:
    issuer.keys = [{**issuer.keys[0], "use": "enc"}]
    return issuer.token(SUBJECT)


def of_another_curve(issuer: Issuer) -> str:
    key = ec.generate_private_key(ec.SECP256K1())
    issuer.keys = [{**public_jwk(key), "kid": "k1"}]
    claims = jwt.decode(issuer.token(SUBJECT), options={"verify_signature": False})
    return jwt.encode(claims, key, algorithm="ES256K", headers={"kid": "k1"})


FORGERIES: list[tuple[Callable[[Issuer], str], str]] = [
    (unsigned, "TOKEN_INVALID"),
    (hmac_with_the_public_key, "TOKEN_INVALID"),
    (signed_by_another, "TOKEN_INVALID"),
    (weak, "TOKEN_INVALID"),
    (for_encryption, "TOKEN_INVALID"),
    (of_another_curve, "TOKEN_INVALID"),
    (lambda issuer: issuer.token(SUBJECT, aud="another"), "TOKEN_INVALID"),
    (lambda issuer: issuer.token(SUBJECT, aud=None), "TOKEN_INVALID"),
    (lambda issuer: issuer.token(SUBJECT, exp=None), "TOKEN_INVALID"),
    (lambda issuer: issuer.token(SUBJECT, exp=int(time.time()) - 1), "TOKEN_EXPIRED"),
    (lambda issuer: issuer.token(SUBJECT, nbf=int(time.time()) + 300), "TOKEN_INVALID"),
    (lambda issuer: issuer.token(SUBJECT, iss="https://else.example"), "TOKEN_INVALID"),
    (lambda issuer: issuer.token(SUBJECT, iss=issuer.url + "/"), "TOKEN_INVALID"),
    (lambda issuer: issuer.token(SUBJECT)[:-9], "TOKEN_INVALID"),
    (lambda _: "garbage", "TOKEN_INVALID"),
]


@pytest.mark.parametrize(("forge", "reason"), FORGERIES)
def test_a_forged_issuers_token_is_refused_and_an_event(
    client: Client, issuer: Issuer, tmp_path: Path, forge: Callable[[Issuer], str], reason: str
) -> None:
    exchange = Exchange(client, issuer, tmp_path / "token")
    assert exchange(forge(issuer)) == reason


def test_a_key_set_that_gives_a_private_key_away_is_not_believed(
    client: Client, issuer: Issuer, tmp_path: Path
) -> None:
    exchange = Exchange(client, issuer, tmp_path / "token")
    key = ec.generate_private_key(ec.SECP256R1())
    issuer.keys = [{**jwt.algorithms.ECAlgorithm.to_jwk(key, as_dict=True), "kid": "leaked"}]
    claims = jwt.decode(issuer.token(SUBJECT), options={"verify_signature": False})
    assert exchange(jwt.encode(claims, key, algorithm="ES256", headers={"kid": "leaked"})) == "TOKEN_INVALID"


def test_a_secret_of_one_client_key_opens_no_other(client: Client, credential: ClientKeySession) -> None:
    other = access.client_key(client, access.workload(client))
    assert (
        reason_of(lambda: client.access.sessions.create(replace(credential, secret=other.secret)))
        == "CREDENTIAL_INVALID"
    )


def test_a_service_of_the_mesh_cannot_begin_sessions_for_others(mesh: Mesh) -> None:
    with client_of(mesh, "service/secrets") as service:
        assert reason_of(service.access.sessions.create) == "IDENTITY_UNKNOWN"
