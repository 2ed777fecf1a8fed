"""Session tokens that are not what they seem: each is refused, and each refusal is an event."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from deploy.dev.mesh import Mesh
from strongroom import Client, SessionToken
from strongroom.crypto.v1 import crypto_pb2
from strongroom.crypto.v1.crypto_pb2_grpc import CryptoServiceStub
from tests.security.test_callers import SECONDS, refused
from tests.support.access import Rows
from tests.support.clients import client_by, reason_of, refusal, until

DECRYPT = 'permit (principal, action == Strongroom::Action::"crypto:Decrypt", resource);'


class Signer:
    """Signs as a process of keystore does: its public key is among the mesh's."""

    def __init__(self, rows: Rows) -> None:
        self.key_id = f"token-key-{secrets.token_hex(8)}"
        self.private = Ed25519PrivateKey.generate()
        rows.add_token_key(self.key_id, self.private.public_key().public_bytes_raw())
        now = time.time()
        self.claims: dict[str, Any] = {
            "iss": "spiffe://strongroom.local/service/keystore",
            "aud": "strongroom",
            "sub": "accounts/default/users/admin",
            "iat": now + 0.1,
            "nbf": int(now) - 30,
            "exp": int(now) + 600,
            "jti": "1",
            "session": "s",
            "credential": "c",
            "credential_kind": "certificate",
            "session_policies": [],
            "session_tags": {},
            "assumed_by": [],
        }

    def token(self, **changes: Any) -> str:
        """A token with other claims; None takes one away."""
        claims = {name: value for name, value in {**self.claims, **changes}.items() if value is not None}
        return jwt.encode(claims, self.private, algorithm="EdDSA", headers={"kid": self.key_id})


@pytest.fixture
def signer(mesh: Mesh, rows: Rows) -> Signer:
    """One whose key every service knows."""
    signer = Signer(rows)
    with client_by(mesh, SessionToken(signer.token())) as client:
        until(lambda: "TOKEN_INVALID" not in _reasons(client))
    return signer


def as_token(mesh: Mesh, token: str) -> str:
    """Why a token is refused by each service alike; nothing where it is not."""
    with client_by(mesh, SessionToken(token)) as client:
        (reason,) = _reasons(client)
    return reason


def _reasons(client: Client) -> set[str]:
    return {
        reason_of(client.access.whoami),
        reason_of(lambda: client.generate_random(16)),
        reason_of(lambda: client.secrets.get_value("none")).replace("SECRET_NOT_FOUND", ""),
    }


def test_a_token_of_the_mesh_is_accepted(mesh: Mesh, signer: Signer) -> None:
    # So that the refusals below are not for some other reason.
    assert as_token(mesh, signer.token()) == ""


@pytest.mark.parametrize(
    ("claim", "value", "reason"),
    [
        ("aud", "another", "TOKEN_INVALID"),
        ("aud", None, "TOKEN_INVALID"),
        ("iss", "spiffe://other.local/service/keystore", "TOKEN_INVALID"),
        ("exp", 1_000_000_000, "TOKEN_EXPIRED"),
        ("exp", None, "TOKEN_INVALID"),
        ("nbf", 4_000_000_000, "TOKEN_INVALID"),
        ("iat", 1_000_000_000, "TOKEN_INVALID"),
        ("sub", None, "TOKEN_INVALID"),
        ("sub", 7, "TOKEN_INVALID"),
        ("jti", None, "TOKEN_INVALID"),
        # Downgraded: without a word of what narrows it.
        ("session_policies", None, "TOKEN_INVALID"),
        ("session_tags", None, "TOKEN_INVALID"),
        ("assumed_by", None, "TOKEN_INVALID"),
        ("credential_kind", None, "TOKEN_INVALID"),
        ("credential_kind", "root", "TOKEN_INVALID"),
        ("session_policies", 7, "TOKEN_INVALID"),
    ],
)
def test_a_token_whose_claims_are_not_a_sessions_is_refused(
    mesh: Mesh, signer: Signer, claim: str, value: Any, reason: str
) -> None:
    assert as_token(mesh, signer.token(**{claim: value})) == reason


def test_a_principal_that_does_not_exist_is_nobody(mesh: Mesh, signer: Signer) -> None:
    with client_by(mesh, SessionToken(signer.token(sub="accounts/default/users/nobody"))) as client:
        assert reason_of(client.access.whoami) == "IDENTITY_UNKNOWN"
        assert reason_of(lambda: client.generate_random(16)) == "PERMISSION_DENIED"


def forged_by_another(token: str, _rows: Rows) -> str:
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(claims, Ed25519PrivateKey.generate(), algorithm="EdDSA", headers={"kid": header["kid"]})


def without_a_signature(token: str, _rows: Rows) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(claims, "", algorithm="none", headers={"kid": jwt.get_unverified_header(token)["kid"]})


def with_its_signature_cut_off(token: str, _rows: Rows) -> str:
    return token.rpartition(".")[0] + "."


def said_to_be_unsigned(token: str, _rows: Rows) -> str:
    _, body, signature = token.split(".")
    return f"{_part({'alg': 'none', 'kid': jwt.get_unverified_header(token)['kid']})}.{body}.{signature}"


def hmac_with_the_public_key(token: str, rows: Rows) -> str:
    key_id = jwt.get_unverified_header(token)["kid"]
    (public,) = (key.public_key for key in rows.token_keys() if key.key_id == key_id)
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(claims, public, algorithm="HS256", headers={"kid": key_id})


def with_a_key_of_its_own(token: str, _rows: Rows) -> str:
    mine = Ed25519PrivateKey.generate()
    raw = mine.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": base64.urlsafe_b64encode(raw).rstrip(b"=").decode()}
    claims = jwt.decode(token, options={"verify_signature": False})
    key_id = jwt.get_unverified_header(token)["kid"]
    return jwt.encode(claims, mine, algorithm="EdDSA", headers={"kid": key_id, "jwk": jwk})


def with_an_unknown_key(token: str, _rows: Rows) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(claims, Ed25519PrivateKey.generate(), algorithm="EdDSA", headers={"kid": "token-key-of-mine"})


def without_its_narrowing(token: str, _rows: Rows) -> str:
    header, _, signature = token.split(".")
    claims = jwt.decode(token, options={"verify_signature": False})
    return f"{header}.{_part({**claims, 'session_policies': []})}.{signature}"


def _part(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "forge",
    [
        forged_by_another,
        without_a_signature,
        with_its_signature_cut_off,
        said_to_be_unsigned,
        hmac_with_the_public_key,
        with_a_key_of_its_own,
        with_an_unknown_key,
        without_its_narrowing,
    ],
)
def test_a_forged_token_is_refused_and_an_event(
    mesh: Mesh, client: Client, rows: Rows, forge: Callable[[str, Rows], str]
) -> None:
    genuine = client.access.sessions.create(session_policy=DECRYPT).token
    with client_by(mesh, SessionToken(forge(genuine, rows))) as forger:
        error = refusal(forger.access.whoami)

    assert error.reason == "TOKEN_INVALID"
    (event,) = client.audit.events.list(parent="services/audit", trace_id=error.trace_id)
    assert (event.id, event.outcome, event.reason) == (error.event_id, "DENIED", "TOKEN_INVALID")
    assert event.principal == ""


def test_a_service_that_forwards_cannot_vouch_for_a_token(mesh: Mesh, client: Client) -> None:
    genuine = client.access.sessions.create().token
    request = crypto_pb2.GenerateRandomRequest(number_of_bytes=16)
    with mesh.channel("crypto", "internal", mesh.authority.issue("service/secrets")) as channel:
        stub = CryptoServiceStub(channel)

        def forward(token: str) -> crypto_pb2.GenerateRandomResponse:
            answer: crypto_pb2.GenerateRandomResponse = stub.GenerateRandom(
                request, timeout=SECONDS, metadata=(("authorization", f"Bearer {token}"),)
            )
            return answer

        assert len(forward(genuine).data) == 16
        for token in (genuine[:-8], "", "garbage"):
            assert refused(partial(forward, token))[1] == "TOKEN_INVALID"


def test_a_service_that_does_not_forward_can_hand_on_nothing(mesh: Mesh, client: Client) -> None:
    token = client.access.sessions.create().token
    request = crypto_pb2.GenerateRandomRequest(number_of_bytes=16)
    with mesh.channel("crypto", "internal", mesh.authority.issue("service/audit")) as channel:
        stub = CryptoServiceStub(channel)
        for metadata in (
            (("authorization", f"Bearer {token}"),),
            (("strongroom-on-behalf-of", "accounts/default/users/admin"),),
        ):
            reason = refused(partial(stub.GenerateRandom, request, timeout=SECONDS, metadata=metadata))
            assert reason[1] == "CALLER_NOT_ALLOWED"
