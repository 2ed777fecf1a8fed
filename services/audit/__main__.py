"""The audit service: configuration → objects → server."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial

from sqlalchemy import Engine

from services.audit.handlers.audit_service import AuditService
from services.audit.handlers.event_log_service import EventLogService
from services.audit.handlers.forwarded import Proxies
from services.audit.handlers.http_tiles import HttpTiles
from services.audit.handlers.record_key_service import RecordKeyService
from services.audit.handlers.sealing_service import SealingService
from services.audit.keys.root_wrapping import CryptoRootWrapping
from services.audit.keys.service_keys import Renewal, ServiceKeys
from services.audit.keys.store import WrappedKeys
from services.audit.log import election
from services.audit.log.election import Election
from services.audit.log.endings import Endings
from services.audit.logs.logs import PREFIX, Logs, OpenLog, open_log
from services.audit.logs.losses import Losses
from services.audit.logs.storage_watch import StorageWatch
from services.audit.logs.streaming import Tails
from services.audit.publication.export_folder import ExportFolder
from services.audit.publication.publishing import Publication
from services.audit.publication.witnesses import WitnessSettings
from services.audit.retention.retention import RetentionWork
from services.audit.settings import AuditServiceSettings
from services.audit.storage.files import Limits
from services.audit.storage.store import is_away
from services.runtime import clock
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.hosting import command, host
from services.runtime.hosting.host import Host
from services.runtime.mesh.channels import MeshChannel
from services.runtime.mesh.tls import TlsFiles
from services.runtime.rpc.server import HealthServer
from services.runtime.rpc.status import Status
from services.runtime.storage import database, migrations
from services.runtime.telemetry import Telemetry
from strongroom.audit.v1 import (
    audit_service_pb2,
    event_log_service_pb2,
    record_key_service_pb2,
    sealing_service_pb2,
)
from strongroom.audit.v1.event_log_service_pb2 import AppendRequest, AppendResponse
from strongroom.tlog.notes import parse_verifier_key

log = logging.getLogger(__name__)

_ONLY_LOG = "main"
_MIB = 1 << 20
# A fifth of Python's own: an append gives up the interpreter whenever it waits for the disk, and waits this long to get
# it back from a lookup or report that computes.
_SWITCH_SECONDS = 0.001
_FRESH_SECONDS = 0.3
_LOST_SECONDS = 0.5


def serve(settings: AuditServiceSettings) -> None:
    """Runs the service until SIGTERM. A process that another one has overtaken, or that lost its database before it
    served, stands by again."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    losses = Losses()
    while not _serve_as_writer(settings, losses):
        log.info("this process does not write the audit log now; standing by")
        # What wrote the log refers to itself in circles, and the next search may be far away.
        gc.collect()


def _serve_as_writer(settings: AuditServiceSettings, losses: Losses) -> bool:
    """Writes the logs once no other process does, until SIGTERM or until another does. Whether it was SIGTERM; not
    either where the database went before the logs were open."""
    telemetry = Telemetry("audit", settings.telemetry)
    database.count_second_connections(telemetry.meter)
    tls = TlsFiles(settings.tls)
    crypto = MeshChannel(host.upstream(settings, "crypto"), tls)
    wrapping = CryptoRootWrapping(crypto)
    engines = {name: _database(of_log) for name, of_log in _databases(settings).items()}
    overtaken = threading.Event()
    elections = _elections(engines, overtaken, losses)

    def give_up() -> None:
        for one in elections.values():
            one.give_up()

    keys = {name: ServiceKeys(WrappedKeys(engine), wrapping, clock.system_clock) for name, engine in engines.items()}
    _stand_by(settings, elections.values(), Renewal([of_log.prepare for of_log in keys.values()]))
    endings = Endings(overtaken.set, give_up)
    try:
        with ExitStack() as opening:
            for close in (telemetry.shutdown, crypto.close, *(engine.dispose for engine in engines.values()), give_up):
                opening.callback(close)
            opened = []
            for name, engine in engines.items():
                opened.append(_opened(name, settings, engine, wrapping, elections[name], endings, keys[name]))
                opening.callback(opened[-1].stop)
                losses.look(opened[-1])
            logs = Logs(opened)
            logs.start()
            opening.pop_all()
    except StrongroomError as error:
        if not is_away(error):
            raise SystemExit(error.message) from error
        log.warning("the database was lost while the audit log was opened", extra={"fields": {"reason": error.reason}})
        time.sleep(_LOST_SECONDS)
        return False
    hosted = host.build("audit", settings, tls, telemetry, open_append=lambda: _append_to(logs))
    hosted.on_close(crypto.close)
    _offer(hosted, settings, logs)
    _start_work(hosted, settings, logs, losses)
    hosted.server.hand_over_by(partial(_hand_over, logs, give_up))
    watching = threading.Thread(target=_stop_when, args=(overtaken, hosted), name="audit-overtaken", daemon=True)
    watching.start()
    try:
        # The mesh waits for who writes the log, and no append asks keystore.
        return hosted.run(wait_seconds=_FRESH_SECONDS)
    finally:
        overtaken.set()
        losses.remember(logs)


def _elections(engines: Mapping[str, Engine], overtaken: threading.Event, losses: Losses) -> dict[str, Election]:
    return {
        name: election.election_for(engine, overtaken.set, partial(losses.saw, PREFIX + name))
        for name, engine in engines.items()
    }


def _offer(hosted: Host, settings: AuditServiceSettings, logs: Logs) -> None:
    tails = Tails()
    hosted.server.on_drain(tails.drain)
    hosted.status.component("log", logs.check)
    # The log itself goes on, and verifies.
    hosted.status.component("outbox", logs.check_outboxes, vital=False)
    hosted.status.component("sealing keys", logs.check_keys, vital=False)
    hosted.public(
        audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"],
        AuditService(logs, hosted.authorizer, settings.log.account, tails),
    )
    hosted.internal(
        event_log_service_pb2.DESCRIPTOR.services_by_name["EventLogService"], EventLogService(logs, hosted.telemetry)
    )
    hosted.internal(sealing_service_pb2.DESCRIPTOR.services_by_name["SealingService"], SealingService(logs))
    hosted.internal(record_key_service_pb2.DESCRIPTOR.services_by_name["RecordKeyService"], RecordKeyService(logs))


def _start_work(hosted: Host, settings: AuditServiceSettings, logs: Logs, losses: Losses) -> None:
    watch = StorageWatch(logs, hosted.telemetry.meter)
    hosted.on_close(logs.stop)
    hosted.on_close(watch.stop)
    watch.start()
    retention = RetentionWork([one.retention for one in logs])
    telling = losses.telling(logs)
    for work in (retention, telling):
        hosted.on_close(work.stop)
        work.start()
    if settings.log.http_address:
        proxies = Proxies(settings.log.http_proxies, settings.log.http_forwarded)
        tiles = HttpTiles(settings.log.http_address, logs, proxies=proxies)
        tiles.start()
        hosted.on_close(tiles.stop)


def _hand_over(logs: Logs, give_up: Callable[[], None]) -> None:
    """What is acknowledged is durable by then; whoever stands by wins within a tenth of a second."""
    for one in logs:
        one.log.hand_over()
    give_up()


def _stop_when(overtaken: threading.Event, hosted: Host) -> None:
    overtaken.wait()
    hosted.server.stop()


def migrate(settings: AuditServiceSettings) -> None:
    """Brings the databases to this release's schema."""
    for of_log in _databases(settings).values():
        migrations.migrate(database.open_database(of_log), "audit")


def _databases(settings: AuditServiceSettings) -> Mapping[str, Database]:
    """The database of each log."""
    return settings.log.shards or {_ONLY_LOG: settings.database}


def _database(of_log: Database) -> Engine:
    engine = database.open_database(of_log)
    migrations.require_current(engine, "audit")
    return engine


def _stand_by(settings: AuditServiceSettings, elections: Iterable[Election], reserve: Renewal) -> None:
    """Returns once this process writes the logs. Until then it listens for nothing but health, so that callers go to
    the one that does; its own health is that it runs and does not serve. The keys that it would need are held in
    `reserve`."""
    # Those of a server that drained would only note them.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status = Status("audit", host.instance())
    status.component("log", _not_serving)
    status.serves(audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"].full_name)
    health = settings.listeners.health
    server = HealthServer(settings.listeners, health.address, status, shared_port=False) if health else None
    if server is not None:
        server.start()
        status.start()
    for one in elections:
        election.win(one, on_wait=reserve.start)
    reserve.stop(wait_seconds=0.0)
    if server is not None:
        status.drain()
        server.stop()


def _not_serving() -> None:
    raise StrongroomError(Reason.AUDIT_STORAGE_FAILED, "another process writes the log", peer="audit")


def _opened(
    name: str,
    settings: AuditServiceSettings,
    engine: Engine,
    wrapping: CryptoRootWrapping,
    won: Election,
    endings: Endings,
    keys: ServiceKeys,
) -> OpenLog:
    origin = settings.log.origin or f"{settings.tls.trust_domain}/audit"
    opened = open_log(
        name,
        engine,
        wrapping,
        Publication(
            f"{origin}/{name}" if settings.log.shards else origin,
            settings.log.checkpoint_seconds,
            settings.log.witness_quorum,
        ),
        Limits(settings.log.warn_free_mib * _MIB, settings.log.refuse_free_mib * _MIB),
        settings.log.signing_key_days,
        clock.system_clock,
        won,
        [WitnessSettings(parse_verifier_key(one.key), one.url) for one in settings.log.witnesses],
        endings,
        keys,
    )
    if settings.log.export_directory:
        folder = ExportFolder(settings.log.export_directory / name, opened.source)
        opened.publisher.listen(on_published=[folder.published])
    return opened


def _append_to(logs: Logs) -> Callable[..., AppendResponse]:
    """How the service records its own calls: straight into its own log."""

    def append(request: AppendRequest, *, timeout: float) -> AppendResponse:  # noqa: ARG001  # nothing to wait for
        if not request.events:
            logs.check()
        return AppendResponse(indexes=logs.append(request.events, resent=request.resend))

    return append


if __name__ == "__main__":
    preparation = command.Preparation("migrate", "bring the database to this release's schema", migrate)
    raise SystemExit(command.run("audit", AuditServiceSettings, serve, preparation, single_process=True))
