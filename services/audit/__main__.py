"""The audit service: configuration → objects → server."""

from __future__ import annotations

from collections.abc import Callable

from services.audit.event_log_service import EventLogService
from services.audit.events import Events
from services.audit.log import Log
from services.audit.root_wrapping import CryptoRootWrapping
from services.audit.sealing import Sealer
from services.audit.sealing_service import SealingService
from services.audit.service import AuditService
from services.audit.settings import AuditServiceSettings
from services.audit.store import LogStore
from services.runtime import clock, command, database, host, migrations
from services.runtime.channels import MeshChannel
from services.runtime.telemetry import Telemetry
from services.runtime.tls import TlsFiles
from strongroom.audit.v1 import audit_service_pb2, event_log_service_pb2, sealing_service_pb2
from strongroom.audit.v1.event_log_service_pb2 import AppendRequest, AppendResponse


def serve(settings: AuditServiceSettings) -> None:
    """Runs the service until SIGTERM."""
    telemetry = Telemetry("audit", settings.telemetry)
    tls = TlsFiles(settings.tls)
    engine = database.open_database(settings.database)
    migrations.require_current(engine, "audit")
    store = LogStore(engine)
    sealer = Sealer(store, CryptoRootWrapping(MeshChannel(host.upstream(settings, "crypto"), tls)), clock.system_clock)
    log = Log(store, sealer, clock.system_clock)
    hosted = host.build("audit", settings, tls, telemetry, open_append=lambda: _append_to(log))
    hosted.status.component("log", log.check)
    hosted.public(
        audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"],
        AuditService(Events(store, sealer), hosted.authorizer),
    )
    hosted.internal(
        event_log_service_pb2.DESCRIPTOR.services_by_name["EventLogService"], EventLogService(log, telemetry)
    )
    hosted.internal(sealing_service_pb2.DESCRIPTOR.services_by_name["SealingService"], SealingService(sealer, store))
    hosted.on_close(engine.dispose)
    hosted.on_close(sealer.stop)
    sealer.start()
    hosted.run()


def migrate(settings: AuditServiceSettings) -> None:
    """Brings the database to this release's schema."""
    migrations.migrate(database.open_database(settings.database), "audit")


def _append_to(log: Log) -> Callable[..., AppendResponse]:
    """How the service records its own calls: straight into its own log."""

    def append(request: AppendRequest, *, timeout: float) -> AppendResponse:  # noqa: ARG001  # nothing to wait for
        if not request.events:
            log.check()
        return AppendResponse(indexes=log.append(request.events, resent=request.resend))

    return append


if __name__ == "__main__":
    preparation = command.Preparation("migrate", "bring the database to this release's schema", migrate)
    raise SystemExit(command.run("audit", AuditServiceSettings, serve, preparation, single_process=True))
