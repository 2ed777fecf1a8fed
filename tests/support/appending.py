"""An audit log that keeps events in memory, on a real server with mTLS, and whoever appends to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from deploy.dev import topology
from deploy.dev.certificates import CertificateFiles, DevelopmentAuthority
from services.runtime import identifiers
from services.runtime.audit_client import AuditClient
from services.runtime.config import AuditClientSettings, Tls
from services.runtime.errors import StrongroomError
from services.runtime.mesh.channels import MeshChannel, Route
from services.runtime.mesh.tls import TlsFiles
from services.runtime.rpc.streams import error_trailers
from strongroom.audit.v1.event_log_service_pb2 import AppendRequest, AppendResponse
from strongroom.audit.v1.event_log_service_pb2_grpc import (
    EventLogServiceServicer,
    EventLogServiceStub,
    add_EventLogServiceServicer_to_server,
)
from strongroom.audit.v1.event_pb2 import Event


class MemoryLog(EventLogServiceServicer):
    """Keeps the ids of events, and fails as told."""

    def __init__(self) -> None:
        self.kept: set[str] = set()
        self.groups: list[AppendRequest] = []
        self.callers: list[str] = []
        self.fails: Callable[[AppendRequest], StrongroomError | None] = lambda _request: None
        self.gate = threading.Event()
        """Lets events through; a probe passes without."""
        self.gate.set()

    def Append(self, request: AppendRequest, context: grpc.ServicerContext) -> AppendResponse:  # noqa: N802  # the contract's name
        """Keeps the events, all or none."""
        if request.events:
            self.gate.wait(30)
        error = self.fails(request)
        if error is not None:
            context.set_trailing_metadata(error_trailers(error))
            context.abort(error.code, error.message)
        if request.events:
            self.callers.append(context.peer())
            self.groups.append(request)
            self.kept.update(event.id for event in request.events)
        return AppendResponse(indexes=range(len(request.events)))


@dataclass
class AppendingMesh:
    """One authority, a log, and addresses that it may be served at."""

    authority: DevelopmentAuthority
    log: MemoryLog = field(default_factory=MemoryLog)
    ports: list[int] = field(default_factory=list)

    def port(self) -> int:
        """One more that nothing listens on."""
        self.ports.append(topology.free_port())
        return self.ports[-1]

    @contextmanager
    def serving(self, port: int, service: str = "service/audit") -> Iterator[grpc.Server]:
        """Serves the log, by the certificate of a service. Ends at once."""
        files = self.authority.issue(service)
        server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        add_EventLogServiceServicer_to_server(self.log, server)
        credentials = grpc.ssl_server_credentials(
            [(files.key.read_bytes(), files.certificate.read_bytes())], files.trust.read_bytes(), True
        )
        server.add_secure_port(f"{topology.HOST}:{port}", credentials)
        server.start()
        try:
            yield server
        finally:
            server.stop(0).wait()

    def files(self) -> CertificateFiles:
        """Of whoever appends."""
        return self.authority.issue("service/crypto")

    @contextmanager
    def client(self, *ports: int, deadline_seconds: float = 20.0) -> Iterator[AuditClient]:
        """An audit client with a direct way to the log at one of these ports."""
        from services.runtime.mesh.direct_appends import DirectAppends

        files = self.files()
        tls = TlsFiles(
            Tls(certificate=files.certificate, key=files.key, trust=files.trust, trust_domain=topology.TRUST_DOMAIN)
        )
        route = Route(",".join(f"{topology.HOST}:{port}" for port in ports))
        settings = AuditClientSettings(deadline_seconds=deadline_seconds)
        channels: list[MeshChannel] = []

        def open_append() -> Any:
            channels.append(MeshChannel(route, tls, retry=False))
            return channels[-1].method(EventLogServiceStub, "Append")

        client = AuditClient(
            open_append,
            deadline_seconds=deadline_seconds,
            direct=lambda give_back: DirectAppends(route, tls, settings, give_back),
        )
        try:
            yield client
        finally:
            client.stop()
            for channel in channels:
                channel.close()


class Calls:
    """Calls whose events are appended, and what each was told."""

    def __init__(self, client: AuditClient) -> None:
        self.told: dict[str, list[str]] = {}
        """By the id of its event: why it failed, "" where it did not."""
        self._client = client

    def begin(self, count: int = 1, *, payer: str = "acme") -> list[str]:
        """Makes so many calls, of one event each. Answers the events' ids."""
        events = [Event(id=identifiers.event_id()) for _ in range(count)]
        for event in events:
            told = self.told[event.id] = []

            def then(error: StrongroomError | None, told: list[str] = told) -> None:
                told.append(error.reason if error is not None else "")

            self._client.append_and_send([event], "", payer, then, held_bytes=0, ready=None)
        return [event.id for event in events]

    def close(self) -> None:
        """Closes the direct way, as a failure does; what was not sent goes the other."""
        direct = self._client._direct
        assert direct is not None
        for group in direct.close():
            self._client._give_back(group, None)

    def all_told(self) -> bool:
        """Whether each of them was."""
        return all(self.told.values())
