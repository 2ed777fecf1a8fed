"""A door has no authority of its own: what holds its certificate can do nothing that its callers did not bring."""

from __future__ import annotations

import grpc
import pytest

from deploy.dev.certificates import CertificateFiles
from deploy.dev.channels import Trust
from deploy.dev.mesh import Listener, Mesh
from services.runtime.mesh import forwarding
from strongroom import Client
from strongroom.access.v1.session_service_pb2 import (
    CertificateCredential,
    ClientKeyCredential,
    CreateSessionRequest,
)
from strongroom.access.v1.session_service_pb2_grpc import SessionServiceStub
from strongroom.crypto.v1.crypto_pb2 import GenerateRandomRequest
from strongroom.crypto.v1.crypto_pb2_grpc import CryptoServiceStub
from strongroom.crypto.v1.material_pb2 import GetRootStatusRequest
from strongroom.crypto.v1.material_pb2_grpc import MaterialServiceStub
from strongroom.errors import from_rpc_error
from strongroom.keystore.v1.key_service_pb2 import ListKeysRequest
from strongroom.keystore.v1.key_service_pb2_grpc import KeyServiceStub
from strongroom.secrets.v1.secret_service_pb2 import ListSecretsRequest
from strongroom.secrets.v1.secret_service_pb2_grpc import SecretServiceStub

SECONDS = 5.0
ADMINISTRATOR = "accounts/default/users/admin"
METHODS = {
    "keystore": (KeyServiceStub, "ListKeys", ListKeysRequest(parent="accounts/default")),
    "crypto": (CryptoServiceStub, "GenerateRandom", GenerateRandomRequest()),
    "secrets": (SecretServiceStub, "ListSecrets", ListSecretsRequest(parent="accounts/default")),
}


@pytest.fixture
def door(mesh: Mesh) -> CertificateFiles:
    """What the door has."""
    return mesh.authority.issue("service/doors")


def reason_of(error: Exception | None) -> str:
    assert isinstance(error, grpc.RpcError)
    return from_rpc_error(error, "service").reason


@pytest.mark.parametrize("service", METHODS)
def test_a_door_cannot_name_the_principal_that_it_acts_for(mesh: Mesh, door: CertificateFiles, service: str) -> None:
    stub, method, request = METHODS[service]
    with mesh.channel(service, "internal", door) as channel, pytest.raises(grpc.RpcError) as caught:
        getattr(stub(channel), method)(request, timeout=SECONDS, metadata=((forwarding.ON_BEHALF_OF, ADMINISTRATOR),))
    assert reason_of(caught.value) == "CALLER_NOT_ALLOWED"


@pytest.mark.parametrize("service", METHODS)
def test_a_session_that_a_door_brings_is_verified_and_named(
    mesh: Mesh, door: CertificateFiles, administrator: Client, service: str
) -> None:
    stub, method, request = METHODS[service]
    token = administrator.access.sessions.create().token
    head, claims, signature = token.split(".")
    with mesh.channel(service, "internal", door) as channel:
        call = getattr(stub(channel), method)
        assert call(request, timeout=SECONDS, metadata=((forwarding.AUTHORIZATION, f"Bearer {token}"),))
        forged = f"{head}.{claims}.{signature[:-6]}AAAAAA"
        with pytest.raises(grpc.RpcError) as caught:
            call(request, timeout=SECONDS, metadata=((forwarding.AUTHORIZATION, f"Bearer {forged}"),))
    assert reason_of(caught.value) == "TOKEN_INVALID"


def test_a_door_may_call_no_internal_service_but_for_sessions(mesh: Mesh, door: CertificateFiles) -> None:
    with mesh.channel("crypto", "internal", door) as channel, pytest.raises(grpc.RpcError) as caught:
        MaterialServiceStub(channel).GetRootStatus(GetRootStatusRequest(), timeout=SECONDS)
    assert reason_of(caught.value) == "CALLER_NOT_ALLOWED"


def test_a_certificate_is_presented_by_doors_alone(mesh: Mesh, door: CertificateFiles) -> None:
    presented = forwarding.passed_certificate("spiffe://strongroom.local/user/admin", 2**52)
    request = CreateSessionRequest(certificate=CertificateCredential())
    with mesh.channel("keystore", "internal", door) as channel:
        session = SessionServiceStub(channel).CreateSession(request, timeout=SECONDS, metadata=presented)
        assert session.principal == ADMINISTRATOR
        # A door's own certificate is bound to nobody, and is not taken for its caller's.
        with pytest.raises(grpc.RpcError) as caught:
            SessionServiceStub(channel).CreateSession(request, timeout=SECONDS)
        assert reason_of(caught.value) == "UNAUTHENTICATED"
    others: list[tuple[CertificateFiles | Trust, Listener]] = [
        (mesh.authority.issue("service/secrets"), "internal"),
        (mesh.trust, "public"),
    ]
    for identity, listener in others:
        with mesh.channel("keystore", listener, identity) as channel, pytest.raises(grpc.RpcError) as caught:
            SessionServiceStub(channel).CreateSession(request, timeout=SECONDS, metadata=presented)
        assert reason_of(caught.value) in ("CALLER_NOT_ALLOWED", "UNAUTHENTICATED")


def test_wrong_credentials_by_a_door_are_counted_by_the_address_that_they_came_from(
    mesh: Mesh, door: CertificateFiles
) -> None:
    wrong = CreateSessionRequest(
        client_key=ClientKeyCredential(client_key="accounts/default/clientKeys/ck-none", secret="wrong")
    )
    refused: dict[str, set[str]] = {"192.0.2.7": set(), "192.0.2.8": set()}
    with mesh.channel("keystore", "internal", door) as channel:
        sessions = SessionServiceStub(channel)

        def reasons(address: str, count: int) -> set[str]:
            source = ((forwarding.SOURCE_ADDRESS, address),)
            calls = [sessions.CreateSession.future(wrong, timeout=20, metadata=source) for _ in range(count)]
            return {reason_of(call.exception()) for call in calls}

        for _ in range(20):
            refused["192.0.2.7"] |= reasons("192.0.2.7", 100)
            if "QUOTA_EXCEEDED" in refused["192.0.2.7"]:
                break
        refused["192.0.2.8"] |= reasons("192.0.2.8", 1)
    assert refused == {"192.0.2.7": {"CREDENTIAL_INVALID", "QUOTA_EXCEEDED"}, "192.0.2.8": {"CREDENTIAL_INVALID"}}
