"""A rotator of one account is not driven by another: it is told for whose secret it is called, and can check that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import jwt
import pytest

from deploy.dev.certificates import CertificateFiles, DevelopmentAuthority
from deploy.dev.topology import spiffe_id
from services.runtime.mesh.tls import Identity
from services.runtime.requests.names import ResourceName
from services.secrets.rotation.rotators.rotation_tokens import METADATA, rotation_token
from strongroom.rotator import verify
from strongroom.secrets.v1.rotator_service_pb2 import RotationContext
from tests.support.clocks import StillClock

SECRETS = spiffe_id("service/secrets")
HERE = "rotator.example:7443"
SECRET = ResourceName("payments", "secrets", "db")


@dataclass
class Caller:
    """What gRPC tells a rotator of who calls."""

    files: CertificateFiles
    identity: str
    tokens: list[str]
    code: grpc.StatusCode | None = None

    def auth_context(self) -> dict[str, list[bytes]]:
        certificate = self.files.certificate.read_bytes()
        return {"x509_subject_alternative_name": [self.identity.encode()], "x509_pem_cert": [certificate]}

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return [(METADATA, token) for token in self.tokens]

    def abort(self, code: grpc.StatusCode, details: str) -> None:
        assert details
        self.code = code


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> DevelopmentAuthority:
    return DevelopmentAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def files(authority: DevelopmentAuthority) -> CertificateFiles:
    return authority.issue("service/secrets")


def identity(files: CertificateFiles) -> Identity:
    return Identity(files.certificate.read_bytes(), files.key.read_bytes(), b"")


def asked(caller: Caller, **given: Any) -> grpc.StatusCode | None:
    """How a rotator of payments' answers."""
    told = RotationContext(secret=given.pop("secret", str(SECRET)))
    usual = {"service_id": SECRETS, "audience": HERE, "accounts": ["payments"], "step": "SetCredential"}
    try:
        verify(caller, told, **{**usual, **given})
    except PermissionError:
        assert caller.code is not None
    return caller.code


def token(files: CertificateFiles, audience: str = HERE, secret: ResourceName = SECRET, **given: Any) -> str:
    return rotation_token(identity(files), audience, secret, "SetCredential", **given)


def test_a_rotator_is_driven_for_its_own_account_alone(files: CertificateFiles) -> None:
    other = ResourceName("intruder", "secrets", "db")
    assert asked(Caller(files, SECRETS, [token(files)])) is None
    theirs = Caller(files, SECRETS, [token(files, secret=other)])
    assert asked(theirs, secret=str(other)) is grpc.StatusCode.PERMISSION_DENIED
    # Nor with the name of a secret that the token is not of.
    assert asked(Caller(files, SECRETS, [token(files, secret=other)])) is grpc.StatusCode.UNAUTHENTICATED


def test_a_token_is_for_one_rotator_one_step_and_a_minute(files: CertificateFiles) -> None:
    refused = grpc.StatusCode.UNAUTHENTICATED
    assert asked(Caller(files, SECRETS, [token(files, "elsewhere:1")])) is refused
    assert asked(Caller(files, SECRETS, [token(files)]), step="FinishRotation") is refused
    assert asked(Caller(files, SECRETS, [token(files, clock=StillClock(1_000_000_000_000))])) is refused
    assert asked(Caller(files, SECRETS, [])) is refused
    assert asked(Caller(files, SECRETS, [token(files)] * 2)) is refused


def test_nobody_else_makes_one(files: CertificateFiles, authority: DevelopmentAuthority) -> None:
    crypto = authority.issue("service/crypto")
    made = token(crypto)
    assert asked(Caller(crypto, spiffe_id("service/crypto"), [made])) is grpc.StatusCode.PERMISSION_DENIED
    assert asked(Caller(files, SECRETS, [made])) is grpc.StatusCode.UNAUTHENTICATED
    claims = jwt.decode(token(files), options={"verify_signature": False})
    for forged in (
        jwt.encode(claims, "", algorithm="none"),
        jwt.encode(claims, "x" * 64, algorithm="HS256"),
        token(files)[:-2],
        "a.b.c",
    ):
        assert asked(Caller(files, SECRETS, [forged])) is grpc.StatusCode.UNAUTHENTICATED
    unnamed = {name: value for name, value in claims.items() if name != "aud"}
    signed = jwt.encode(unnamed, identity(files).key, algorithm=jwt.get_unverified_header(token(files))["alg"])
    assert asked(Caller(files, SECRETS, [signed])) is grpc.StatusCode.UNAUTHENTICATED
