"""Who is let in: certificates, session tokens, and the internal listener."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import grpc
import jwt
import pytest

from deploy.dev.certificates import CertificateFiles, DevelopmentAuthority
from deploy.dev.mesh import Listener, Mesh
from deploy.dev.topology import SERVICES
from strongroom import Client
from strongroom.crypto.v1 import crypto_pb2, material_pb2
from strongroom.crypto.v1.crypto_pb2_grpc import CryptoServiceStub
from strongroom.crypto.v1.material_pb2_grpc import MaterialServiceStub
from strongroom.errors import from_rpc_error
from strongroom.keystore.v1 import key_record_service_pb2
from strongroom.keystore.v1.key_record_service_pb2_grpc import KeyRecordServiceStub

SECONDS = 5.0


def refused(work: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """The status and reason of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        work()
    error = from_rpc_error(caught.value, "service")
    return caught.value.code(), error.reason


def random_bytes(
    mesh: Mesh, identity: Any = None, token: str = "", listener: Listener = "certificate"
) -> crypto_pb2.GenerateRandomResponse:
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    with mesh.channel("crypto", listener, identity) as channel:
        request = crypto_pb2.GenerateRandomRequest(number_of_bytes=16)
        response: crypto_pb2.GenerateRandomResponse = CryptoServiceStub(channel).GenerateRandom(
            request, timeout=SECONDS, metadata=metadata
        )
        return response


def test_a_session_token_is_enough_without_a_certificate(client: Client, mesh: Mesh) -> None:
    token = client.access.sessions.create(session_name="night-shift").token
    assert len(random_bytes(mesh, mesh.trust, token, "public").data) == 16


def test_nobody_is_refused(mesh: Mesh) -> None:
    code, reason = refused(lambda: random_bytes(mesh, mesh.trust, listener="public"))
    assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


def test_a_certificate_of_another_authority_never_connects(mesh: Mesh, foreign_authority: DevelopmentAuthority) -> None:
    foreign = foreign_authority.issue("user/admin")
    # The server is who it says; only the client's own certificate is foreign.
    identity = CertificateFiles(foreign.certificate, foreign.key, mesh.authority.trust)
    with pytest.raises(grpc.RpcError) as caught:
        random_bytes(mesh, identity)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("listener", ["public", "certificate", "internal"])
def test_no_port_of_the_mesh_speaks_without_tls(mesh: Mesh, listener: Listener) -> None:
    """Who reads the network, or asks in the clear, gets no word of HTTP/2."""
    for service in SERVICES:
        host, _, port = mesh.address(service, listener).rpartition(":")
        with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
            # What a client without TLS begins with (RFC 9113, section 3.4), and an empty SETTINGS frame.
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
            answer = b""
            with suppress(OSError):
                while part := connection.recv(4096):
                    answer += part
        # Nothing, or a TLS alert.
        assert answer[:1] in (b"", b"\x15"), (service, listener, answer)
        assert len(answer) < 16


def test_an_expired_certificate_never_connects(mesh: Mesh) -> None:
    expired = mesh.authority.issue("user/late", lifetime=timedelta(seconds=-5))
    with pytest.raises(grpc.RpcError) as caught:
        random_bytes(mesh, expired)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_certificate_bound_to_nobody_is_refused(mesh: Mesh) -> None:
    stranger = mesh.authority.issue("user/stranger")
    assert refused(lambda: random_bytes(mesh, stranger)) == (grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_UNKNOWN")


def test_an_expired_token_is_refused(client: Client, mesh: Mesh) -> None:
    token = client.access.sessions.create(duration_seconds=1).token
    time.sleep(1.2)
    code, reason = refused(lambda: random_bytes(mesh, mesh.trust, token, "public"))
    assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")


@pytest.mark.parametrize("change", ["signature", "subject", "unsigned", "garbage"])
def test_a_forged_token_is_refused(client: Client, mesh: Mesh, change: str) -> None:
    token = client.access.sessions.create().token
    header, body, signature = token.split(".")
    claims = jwt.decode(token, options={"verify_signature": False})
    other = jwt.encode({**claims, "sub": "accounts/default/users/root"}, "k" * 32, algorithm="HS256")
    forged = {
        "signature": f"{header}.{body}.{signature[::-1]}",
        "subject": f"{header}.{other.split('.')[1]}.{signature}",
        "unsigned": jwt.encode(claims, "", algorithm="none"),
        "garbage": "garbage",
    }[change]
    code, reason = refused(lambda: random_bytes(mesh, mesh.trust, forged, "public"))
    assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")


@pytest.mark.parametrize("listener", ["public", "certificate"])
def test_an_internal_method_is_not_even_there_on_public(mesh: Mesh, listener: Listener) -> None:
    service = mesh.authority.issue("service/keystore")
    with mesh.channel("crypto", listener, service) as channel:
        request = material_pb2.CreateMaterialRequest()
        code, _ = refused(lambda: MaterialServiceStub(channel).CreateMaterial(request, timeout=SECONDS))
    assert code == grpc.StatusCode.UNIMPLEMENTED


def test_only_the_configured_services_may_call_an_internal_method(mesh: Mesh) -> None:
    request = key_record_service_pb2.ListChangesRequest(since=-1)
    for caller in (mesh.administrator, mesh.authority.issue("service/stranger")):
        with mesh.channel("keystore", "internal", caller) as channel:
            code, reason = refused(partial(KeyRecordServiceStub(channel).ListChanges, request, timeout=SECONDS))
        assert (code, reason) == (grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED")


def test_a_session_is_an_event_of_its_principal(client: Client) -> None:
    session = client.access.sessions.create(session_name="seen")

    event = client.audit.events.get(session.event_id)

    assert (event.action, event.outcome) == ("access:CreateSession", "ALLOWED")
    assert event.principal == event.resource == "accounts/default/users/admin"
