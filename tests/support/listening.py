"""A server of the runtime in the tests' own process: every listener and kind of method, and nothing behind them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from bench.echo_server import NAME, PATH, EchoServicer, NoPipeline, echo_service, request
from deploy.dev import topology
from deploy.dev.certificates import CertificateFiles, DevelopmentAuthority
from services.runtime import extension
from services.runtime.access.identity import header
from services.runtime.config import Listeners, Tls
from services.runtime.mesh.tls import TlsFiles
from services.runtime.rpc.admission import Caller, Headers, stranger
from services.runtime.rpc.pipeline import Behaviour, Handler, Pipeline
from services.runtime.rpc.server import Server
from services.runtime.rpc.status import Status

ENGINES = ("grpcio", *(["native"] if extension.is_built() else []))
"""What a listener can stand on here."""

KNOWN = "known"
"""A token that the server takes for that of somebody known; what follows it names the account."""


class Echo(EchoServicer):
    """Echoes, and waits for `go` first where the payload says so."""

    def __init__(self, go: threading.Event) -> None:
        super().__init__()
        self._go = go

    def Echo(self, request: Any, call: object) -> Any:  # noqa: N802  # the contract's name
        """Echoes the payload, once `go` is set where it says "wait"."""
        if request.payload == b"wait":
            self._go.wait(30)
        return super().Echo(request, call)


class _Pipeline(NoPipeline):
    def internal(self, method: MethodDescriptor, behaviour: Behaviour) -> Handler:
        """The method itself."""
        del method
        return cast(Handler, behaviour)


@dataclass
class Listening:
    """A server that serves."""

    settings: Listeners
    authority: DevelopmentAuthority
    files: CertificateFiles
    server: Server
    status: Status
    go: threading.Event = field(default_factory=threading.Event)

    @property
    def trust(self) -> Path:
        """Whom clients trust."""
        return self.files.trust

    def address(self, listener: str) -> str:
        """Of `public`, `certificate`, `internal` or `health`."""
        public, health = self.settings.public, self.settings.health
        assert public.certificate_address is not None
        assert health is not None
        return {
            "public": public.address,
            "certificate": public.certificate_address,
            "internal": self.settings.internal.address,
            "health": health.address,
        }[listener]

    def certificate(self, listener: str) -> tuple[Path, Path] | None:
        """What a client needs to connect there: any certificate of the authority's, or none."""
        return (self.files.certificate, self.files.key) if listener in ("certificate", "internal") else None

    def channel(self, listener: str) -> grpc.Channel:
        """A connection of gRPC's own. The caller closes it."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        if listener == "health":
            return grpc.insecure_channel(self.address(listener), options=options)
        pair = self.certificate(listener)
        chain, key = (pair[0].read_bytes(), pair[1].read_bytes()) if pair else (None, None)
        credentials = grpc.ssl_channel_credentials(self.trust.read_bytes(), key, chain)
        return grpc.secure_channel(self.address(listener), credentials, options=options)


def echo(channel: grpc.Channel, payload: bytes = b"x", *, account: str = "", timeout: float = 10.0) -> None:
    """One call, of somebody known where `account` names whose they are."""
    metadata = (("authorization", f"Bearer {KNOWN}{account}"),) if account else ()
    method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PATH)
    method(request(payload).SerializeToString(), timeout=timeout, metadata=metadata)


def _recognize(headers: Headers) -> Caller:
    token = header(headers.metadata, "authorization").removeprefix("Bearer ")
    if token.startswith(KNOWN):
        return Caller(token.removeprefix(KNOWN), headers.peer, is_known=True)
    return stranger(headers.peer)


@contextmanager
def listening(
    directory: Path,
    *,
    pipeline: Pipeline | None = None,
    service: ServiceDescriptor | None = None,
    servicer: object = None,
    **settings: Any,
) -> Iterator[Listening]:
    """A server with these settings of `Listeners` over the defaults; it echoes, unless a `servicer` does otherwise, or
    is of another `service`."""
    authority = DevelopmentAuthority(directory / "authority")
    files = authority.issue("service/crypto")
    public, certificate, internal, health = (f"{topology.HOST}:{topology.free_port()}" for _ in range(4))
    listeners = Listeners.model_validate(
        {
            "public": {"address": public, "certificate_address": certificate},
            "internal": {"address": internal},
            "health": {"address": health},
            "drain_seconds": 0.5,
            **settings,
        }
    )
    tls = Tls(certificate=files.certificate, key=files.key, trust=files.trust, trust_domain=topology.TRUST_DOMAIN)
    status = Status(NAME, NAME)
    server = Server(listeners, TlsFiles(tls), pipeline or _Pipeline(), status, outside=_recognize, mesh=_recognize)
    running = Listening(listeners, authority, files, server, status)
    server.public(service or echo_service(), servicer or Echo(running.go))
    server.start()
    try:
        yield running
    finally:
        running.go.set()
        server.drain()
