"""Certificates that callers show: who may call a method for some alone, and one port for tokens and certificates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from bench.abuse.raw_http2 import RawConnection
from bench.echo_server import PATH, echo_service, request, response
from deploy.dev import topology
from deploy.dev.certificates import CertificateFiles, DevelopmentAuthority
from services.runtime.access.identity import not_allowed
from services.runtime.config import Listeners, Tls
from services.runtime.mesh.tls import TlsFiles
from services.runtime.rpc.admission import Headers, stranger
from services.runtime.rpc.methods import Arrival, Only, arriving
from services.runtime.rpc.server import _port
from tests.support.clients import until
from tests.support.listening import ENGINES

SECONDS = 10.0


@dataclass
class Served:
    """A port, and whom its method has seen."""

    address: str
    authority: DevelopmentAuthority
    seen: list[Any] = field(default_factory=list)

    def call(self, files: CertificateFiles | None) -> None:
        """One call, by the holder of a certificate or of none."""
        chain, key = (files.certificate.read_bytes(), files.key.read_bytes()) if files else (None, None)
        credentials = grpc.ssl_channel_credentials(self.authority.trust.read_bytes(), key, chain)
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        with grpc.secure_channel(self.address, credentials, options=options) as channel:
            method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PATH)
            method(request(b"x").SerializeToString(), timeout=SECONDS)

    def spiffe_id(self, path: str) -> bytes:
        """The SPIFFE id that the authority writes for a path."""
        return f"spiffe://{self.authority.trust_domain}/{path}".encode()


@contextmanager
def served(directory: Path, engine: str, name: str, only: str = "") -> Iterator[Served]:
    """A listener of this name with one method, which may be for `only` one identity."""
    authority = DevelopmentAuthority(directory / "authority")
    files = authority.issue("service/audit")
    settings = Listeners.model_validate(
        {
            "engine": engine,
            "public": {"address": f"{topology.HOST}:{topology.free_port()}"},
            "internal": {"address": f"{topology.HOST}:{topology.free_port()}"},
        }
    )
    address = settings.public.address if name == "public" else settings.internal.address
    running = Served(address, authority)

    def handler(_request: Any, context: grpc.ServicerContext) -> Any:
        running.seen.append(context.auth_context().get("peer_spiffe_id", []))
        return response(b"")

    def recognize(headers: Headers) -> Any:
        return stranger(headers.peer)

    allowed = Only(frozenset({running.spiffe_id(only).decode()}), not_allowed("echo")) if only else None
    tls = Tls(certificate=files.certificate, key=files.key, trust=files.trust, trust_domain=topology.TRUST_DOMAIN)
    port = _port(name, settings, recognize, None, shared_port=False)
    port.bind(address, TlsFiles(tls), require_client_certificate=name != "public")
    port.add(echo_service(), {"Echo": arriving(handler, Arrival(only=allowed))})
    port.start()
    try:
        yield running
    finally:
        port.stop(0.5)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_method_that_is_for_some_refuses_others_by_their_headers(tmp_path: Path, engine: str) -> None:
    with served(tmp_path, engine, "internal", only="service/crypto") as running:
        running.call(running.authority.issue("service/crypto"))
        assert running.seen == [[running.spiffe_id("service/crypto")]]
        for path in ("service/secrets", "user/curious", "service/crypto2"):
            other = running.authority.issue(path)
            with pytest.raises(grpc.RpcError) as refused:
                running.call(other)
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
            with RawConnection(running.address, other.trust, (other.certificate, other.key)) as connection:
                # No message has come, and none ever will.
                stream = connection.call(PATH)
                until(lambda at=stream, on=connection: at in on.ended, SECONDS)  # type: ignore[misc]
        assert len(running.seen) == 1


@pytest.mark.skipif("native" not in ENGINES, reason="the native listener is not built (make native)")
def test_one_public_port_takes_callers_with_and_without_a_certificate(tmp_path: Path, foreign_authority: Any) -> None:
    with served(tmp_path, "native", "public") as running:
        running.call(None)
        running.call(running.authority.issue("user/ann"))
        assert running.seen == [[], [running.spiffe_id("user/ann")]]
        with pytest.raises(grpc.RpcError):
            running.call(foreign_authority.issue("user/ann"))
        assert len(running.seen) == 2
