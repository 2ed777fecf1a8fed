"""What hosts a service: the runtime's parts, put together once in each composition root."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

from google.protobuf.descriptor import ServiceDescriptor
from opentelemetry.metrics import Observation

from services.runtime import background
from services.runtime.access.access_records import AccessRecords, RemoteAccessRecords, remote_changes
from services.runtime.access.authorization import Authorizer
from services.runtime.access.identity import Callers, Identities
from services.runtime.access.quotas import Limit, Quotas, ceiling
from services.runtime.access.strangers import Strangers
from services.runtime.audit_client import Append, AuditClient
from services.runtime.audit_queue import Direct, GiveBack
from services.runtime.changes import ChangeFeed, ListChanges
from services.runtime.config import AuditClientSettings, RequestLimit, ServiceSettings
from services.runtime.hosting import workers
from services.runtime.mesh.channels import MeshChannel, Route
from services.runtime.mesh.tls import TlsFiles
from services.runtime.rpc import ports
from services.runtime.rpc.admission import FromOutside, FromTheMesh
from services.runtime.rpc.pipeline import Pipeline
from services.runtime.rpc.server import Server
from services.runtime.rpc.status import Status
from services.runtime.rpc.status_views import StatusViews
from services.runtime.rpc.summaries import Summaries
from services.runtime.telemetry import Telemetry
from strongroom.audit.v1.event_log_service_pb2_grpc import EventLogServiceStub
from strongroom.keystore.v1.key_record_service_pb2_grpc import KeyRecordServiceStub

_FRESH_SECONDS = 2.0
"""How long a process that starts waits for keystore: services may be started in any order."""


@dataclass
class Host:
    """The runtime around a service. `run` serves until a signal, then closes everything in order."""

    settings: ServiceSettings
    tls: TlsFiles
    telemetry: Telemetry
    status: Status
    audit: AuditClient
    feed: ChangeFeed
    identities: Identities
    authorizer: Authorizer
    quotas: Quotas
    server: Server
    _summaries: Summaries
    _channels: Sequence[MeshChannel]
    _closing: list[Callable[[], None]] = field(default_factory=list)

    def public(self, service: ServiceDescriptor, *handlers: object, exchanges: Collection[str] = ()) -> None:
        """Offers a public service, whose methods are divided between `handlers`: each is offered by exactly one.

        The requests of the methods `exchanges` authenticate.
        """
        self.server.public(service, *handlers, exchanges=exchanges)

    def internal(self, service: ServiceDescriptor, *handlers: object, audited: bool = False) -> None:
        """Offers a service to the mesh alone, whose methods are divided between `handlers`.

        It is `audited` where it changes something by the caller's own permission.
        """
        self.server.internal(service, *handlers, audited=audited)

    def on_close(self, close: Callable[[], None]) -> None:
        """Runs `close` once calls have drained, before the audit client ends; the last added runs first."""
        self._closing.append(close)

    def run(self, wait_seconds: float = _FRESH_SECONDS) -> bool:
        """Serves until SIGTERM, or until the server is stopped. Whether a signal ended it. For so long at most it waits
        for keystore first: a process that is called before it knows what changed would refuse what another answers."""
        self.feed.start()
        self._summaries.start()
        self.feed.wait_until_fresh(wait_seconds)
        return self.server.serve_until_signal(self._close)

    def _close(self) -> None:
        for close in reversed(self._closing):
            close()
        self.feed.stop()
        self._summaries.stop()
        self.audit.stop()
        for channel in self._channels:
            channel.close()
        self.telemetry.shutdown()


def build(
    service: str,
    settings: ServiceSettings,
    tls: TlsFiles,
    telemetry: Telemetry,
    *,
    records: AccessRecords | None = None,
    list_changes: ListChanges | None = None,
    open_append: Callable[[], Append] | None = None,
) -> Host:
    """Puts the runtime together. Keystore hands in its own records and changes, audit its own append; the others
    reach them over the mesh. Keystore decides on what holds when it is asked, the others on what held a moment ago."""
    own_records = records is not None
    reached = _Reached(settings, tls)
    if records is None or list_changes is None:
        records, list_changes = reached.keystore()
    audit = reached.audit_client() if open_append is None else _audit_client(settings.audit, open_append)
    feed = ChangeFeed(list_changes)
    identities = Identities(records, feed, tls.trust_domain)
    authorizer = Authorizer(records, feed)
    status = Status(service, instance())
    status.attribute("listener", ports.described(settings.listeners))
    _watch(status, telemetry, audit, feed, authorizer)
    quotas = Quotas(
        authorizer.account,
        _held_to(settings.quota.account, settings.quota.account_ceiling),
        _held_to(settings.quota.principal, settings.quota.principal_ceiling),
        held_refusals=settings.listeners.held_refusals,
    )
    internal = settings.listeners.internal
    callers = Callers(internal)
    strangers = Strangers(_limit(settings.quota.stranger))
    pipeline = Pipeline(telemetry, identities, callers, quotas, audit, strangers, feed.poll if own_records else None)
    server = Server(
        settings.listeners,
        tls,
        pipeline,
        status,
        StatusViews.by(identities, authorizer, internal, settings.status.account),
        outside=FromOutside(identities),
        mesh=FromTheMesh(internal, identities),
        refusal=lambda caller: quotas.refusal(caller.group, caller.member),
        shared_port=workers.worker_number() is not None,
    )
    summed = Summaries(strangers, audit)
    parts = (settings, tls, telemetry, status, audit, feed, identities, authorizer, quotas, server)
    return Host(*parts, summed, reached.channels, [pipeline.stop])


class _Reached:
    """The services that this one reaches over the mesh, and the channels to them."""

    def __init__(self, settings: ServiceSettings, tls: TlsFiles) -> None:
        self._settings = settings
        self._tls = tls
        self.channels: list[MeshChannel] = []

    def keystore(self) -> tuple[AccessRecords, ListChanges]:
        """Keystore's records and changes."""
        route = Route(upstream(self._settings, "keystore"))
        records = RemoteAccessRecords(self._channel(route))
        # The poll is its own retry: a lost one must not delay the next.
        return records, remote_changes(self._channel(route, retry=False).method(KeyRecordServiceStub, "ListChanges"))

    def audit_client(self) -> AuditClient:
        """Appends to the log."""
        # One for all senders and the probe: whichever finds the writer of the log, all of them do.
        route = Route(upstream(self._settings, "audit"))

        def open_append() -> Append:
            return self._channel(route, retry=False).method(EventLogServiceStub, "Append")

        if ports.engine(self._settings.listeners) != "native":
            return _audit_client(self._settings.audit, open_append)
        # It is not built everywhere.
        from services.runtime.mesh.direct_appends import DirectAppends

        direct = partial(DirectAppends, route, self._tls, self._settings.audit)
        return _audit_client(self._settings.audit, open_append, direct)

    def _channel(self, route: Route, *, retry: bool = True) -> MeshChannel:
        self.channels.append(MeshChannel(route, self._tls, retry=retry))
        return self.channels[-1]


def _audit_client(
    settings: AuditClientSettings,
    open_append: Callable[[], Append],
    direct: Callable[[GiveBack], Direct] | None = None,
) -> AuditClient:
    return AuditClient(
        open_append,
        senders=settings.senders,
        group_limit=settings.group_limit,
        deadline_seconds=settings.deadline_seconds,
        direct=direct,
    )


def _watch(status: Status, telemetry: Telemetry, audit: AuditClient, feed: ChangeFeed, authorizer: Authorizer) -> None:
    status.component("audit", audit.require_writable)
    status.component("keystore", feed.require_fresh)
    status.component("policies", authorizer.require_usable, vital=False)
    status.component("background work", background.check, vital=False)
    background.measure(telemetry.meter)
    telemetry.meter.create_observable_gauge(
        "strongroom.policies.unusable",
        [lambda _: [Observation(len(authorizer.unusable_policies))]],
        description="Policies that cannot be evaluated, which deny",
    )


def _limit(settings: RequestLimit) -> Limit:
    return Limit(settings.requests_per_second, settings.burst)


def _held_to(quota: RequestLimit | None, most: RequestLimit) -> Limit:
    return _limit(quota) if quota is not None else ceiling(most.requests_per_second, most.burst)


def instance() -> str:
    """What this process is called in statuses and events: host name and process id."""
    return f"{socket.gethostname()}/{os.getpid()}"


def upstream(settings: ServiceSettings, service: str) -> str:
    """The internal address of a service that this one calls; ends the process when it is not configured."""
    address: str | None = getattr(settings.upstream, service)
    if address is None:
        raise SystemExit(f"upstream.{service}: required")
    return address
