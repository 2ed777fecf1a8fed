"""A channel to several replicas: one that hangs is left for another that answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from deploy.dev.certificates import DevelopmentAuthority
from deploy.dev.topology import TRUST_DOMAIN
from services.runtime.channels import MeshChannel
from services.runtime.config import Tls
from services.runtime.tls import TlsFiles

REQUEST = health_pb2.HealthCheckRequest()


@pytest.fixture
def tls(tmp_path: Path) -> TlsFiles:
    files = DevelopmentAuthority(tmp_path).issue("service/keystore")
    return TlsFiles(Tls(certificate=files.certificate, key=files.key, trust=files.trust, trust_domain=TRUST_DOMAIN))


@pytest.fixture
def mute() -> Iterator[str]:
    """A replica that hangs: the kernel still takes connections for it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def well(tls: TlsFiles) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_secure_port("127.0.0.1:0", tls.server_credentials(require_client_certificate=True))
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@pytest.mark.parametrize("retry", [True, False])
def test_a_replica_that_hangs_is_left_for_the_next(tls: TlsFiles, mute: str, well: str, retry: bool) -> None:
    channel = MeshChannel(f"{mute},{well}", tls, retry=retry)
    check = channel.method(health_pb2_grpc.HealthStub, "Check")
    for _ in range(2):
        with pytest.raises(grpc.RpcError):
            check(REQUEST, timeout=0.3)
    assert check(REQUEST, timeout=5).status == health_pb2.HealthCheckResponse.SERVING
    channel.close()


def test_a_replica_that_answers_is_kept_whatever_it_answers(tls: TlsFiles, mute: str, well: str) -> None:
    channel = MeshChannel(f"{well},{mute}", tls)
    check = channel.method(health_pb2_grpc.HealthStub, "Check")
    for _ in range(5):
        with pytest.raises(grpc.RpcError) as refused:
            check(health_pb2.HealthCheckRequest(service="nothing"), timeout=5)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert check(REQUEST, timeout=5).status == health_pb2.HealthCheckResponse.SERVING
    channel.close()
