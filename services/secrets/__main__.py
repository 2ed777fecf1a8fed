"""The secrets service: configuration → objects → server."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from services.runtime import clock
from services.runtime.changes import ChangeFeed
from services.runtime.errors import Reason
from services.runtime.hosting import command, components, host
from services.runtime.hosting.host import Host
from services.runtime.mesh.channels import MeshChannel
from services.runtime.mesh.tls import TlsFiles
from services.runtime.requests.names import ResourceName
from services.runtime.storage import database, migrations, row_seals
from services.runtime.storage import outbox as outboxes
from services.runtime.storage.history import History
from services.runtime.storage.outbox import Outbox
from services.runtime.storage.record_keys import OUTBOX_IS_SEALED, AuditRecordKey, RecordSealing
from services.runtime.storage.row_seals import RowSeals
from services.runtime.telemetry import Telemetry
from services.runtime.work.bounded_redis import redis_client
from services.runtime.work.due_work import Aside, DueWork
from services.runtime.work.schedule import Schedule
from services.secrets.core import changes, tables
from services.secrets.core.editing import SecretEditor
from services.secrets.handlers.secret_service import SecretService
from services.secrets.life.catalog import Catalog
from services.secrets.life.creating import Creation
from services.secrets.life.lifecycle import Lifecycle
from services.secrets.life.watching import Watches
from services.secrets.rotation.machine import RotationWork
from services.secrets.rotation.metrics import RotationMetrics
from services.secrets.rotation.repairs import Repairs
from services.secrets.rotation.requests import Rotations
from services.secrets.rotation.rotators import choice
from services.secrets.rotation.rotators.rotator import Supplies
from services.secrets.rotation.targets.access import TargetAccess
from services.secrets.rotation.targets.checks import TargetChecks, Waiters
from services.secrets.rotation.targets.targets import TargetRules
from services.secrets.rotation.targets.workers import (
    StepLimits,
    TargetWorkers,
    say_what_is_not_kept,
    watch_targets,
    with_workers,
)
from services.secrets.settings import RELAY_MIB, RotationSettings, SecretsSettings
from services.secrets.values.data_keys import CryptoDataKeys
from services.secrets.values.readable import FRESH_SECONDS, Readable
from services.secrets.values.recent_data_keys import RecentDataKeys
from services.secrets.values.sealing import Sealer
from services.secrets.values.vault import Vault
from services.secrets.work.due import DueSecrets, rotation_item
from services.secrets.work.first_seals import seal_all
from strongroom.secrets.v1 import secret_service_pb2


@dataclass(frozen=True)
class _Stored:
    """What the rooms of secrets work on: the sealed database, the runtime around it, and how it is changed."""

    engine: Engine
    feed: ChangeFeed
    hosted: Host
    outbox: Outbox
    editor: SecretEditor


@dataclass(frozen=True)
class _Targets:
    """Where secrets are rotated: the processes that connect there, and who may wait for one."""

    rules: TargetRules
    workers: TargetWorkers
    checks: TargetChecks
    access: TargetAccess


def serve(settings: SecretsSettings) -> None:
    """Runs the service until SIGTERM."""
    telemetry = Telemetry("secrets", settings.telemetry)
    database.count_second_connections(telemetry.meter)
    tls = TlsFiles(settings.tls)
    opened = database.open_database(settings.database)
    migrations.require_current(opened, "secrets")
    seals = RowSeals(Reason.SECRET_RECORD_REFUSED)
    feed = ChangeFeed(
        changes.followed(row_seals.sealed(opened, seals)),
        peer="database",
        stale=Reason.DATABASE_UNAVAILABLE,
        stale_seconds=FRESH_SECONDS,
    )
    engine = row_seals.sealed(changes.heard(opened, feed.tell), seals)
    crypto = MeshChannel(host.upstream(settings, "crypto"), tls)
    record_key = AuditRecordKey(MeshChannel(host.upstream(settings, "audit"), tls))
    sealing = RecordSealing(engine, record_key, seals, [seal_all], {OUTBOX_IS_SEALED: outboxes.seal_all})
    hosted = host.build("secrets", settings, tls, telemetry)
    outbox = Outbox(engine, hosted.audit, "services/secrets", telemetry.meter)
    hosted.status.component("outbox", outbox.check, vital=False)
    editor = SecretEditor(engine, hosted.authorizer, outbox, clock.system_clock)
    stored = _Stored(engine, feed, hosted, outbox, editor)
    data_keys = CryptoDataKeys(crypto)
    # Rotation opens its values on the service's own behalf, seldom, and never from memory.
    sealer = Sealer(data_keys, clock.system_clock)
    recent = Sealer(RecentDataKeys(data_keys), clock.system_clock)
    targets = _targets(settings, stored, sealer)
    lifecycle = Lifecycle(editor, targets.access, targets.rules)
    due_work = _due_work(settings, stored, targets, sealer, lifecycle)
    watches = Watches(engine, editor, hosted.authorizer, hosted.audit, clock.system_clock)
    service = _service(stored, targets, sealer, recent, lifecycle, watches, due_work)
    hosted.public(secret_service_pb2.DESCRIPTOR.services_by_name["SecretService"], service)
    hosted.status.component("database", components.database(engine))
    hosted.status.component("crypto", components.crypto(crypto))
    hosted.status.component("record key", seals.check)
    history = History(engine, changes.start_over, tables.revision)
    for close in (opened.dispose, feed.stop, outbox.stop, sealing.stop, targets.checks.close, history.stop):
        hosted.on_close(close)
    hosted.server.on_drain(watches.stop)
    for work in (sealing, outbox, feed, watches, history):
        work.start()
    if due_work is not None:
        hosted.on_close(due_work.stop)
        due_work.start()
    hosted.run()


def _targets(settings: SecretsSettings, stored: _Stored, sealer: Sealer) -> _Targets:
    rotation, hosted = settings.rotation, stored.hosted
    workers = TargetWorkers(_step_limits(rotation), hosted.telemetry.meter)
    hosted.on_close(workers.close)
    # While a name of the mesh's own does not resolve, steps wait.
    hosted.status.component("targets", settings.network.require_own_known, vital=False)
    say_what_is_not_kept(hosted.status)
    waiters = Waiters(rotation.waiting_calls, rotation.target_share)
    checks = TargetChecks(waiters, wait_seconds=rotation.check_wait_seconds)
    keystore = MeshChannel(host.upstream(settings, "keystore"), hosted.tls)
    rotators = with_workers(choice.rotators(Supplies(hosted.tls, keystore)), workers, hosted.tls.current)
    access = TargetAccess(stored.engine, sealer, rotators, waiters, checks, network=settings.network)
    return _Targets(TargetRules(rotation.plaintext_targets), workers, checks, access)


def _due_work(
    settings: SecretsSettings, stored: _Stored, targets: _Targets, sealer: Sealer, lifecycle: Lifecycle
) -> DueWork | None:
    if settings.redis is None:
        return None
    hosted, rotation, now = stored.hosted, settings.rotation, clock.system_clock
    work = RotationWork(
        stored.engine,
        sealer,
        targets.access,
        stored.outbox,
        RotationMetrics(hosted.telemetry.meter),
        now,
        host.instance(),
        first_retry_seconds=rotation.first_retry_seconds,
    )
    client = redis_client(settings.redis)
    # Without it rotations are late, and everything else goes on.
    hosted.status.component("redis", components.redis(client), vital=False)
    hosted.on_close(client.close)
    due = DueSecrets(
        stored.engine,
        work,
        lifecycle,
        stored.outbox,
        hosted.telemetry,
        now,
        step_seconds=rotation.step_seconds,
    )
    aside = Aside(due.account_of_target, rotation.target_threads, rotation.target_share)
    watch_targets(hosted.status, hosted.telemetry.meter, targets.workers, aside)
    return DueWork(
        Schedule(client, "secrets"),
        due.due,
        due.handle,
        now,
        threads=rotation.threads,
        lease_seconds=rotation.lease_seconds,
        aside=aside,
        overdue=due.overdue,
    )


def _service(
    stored: _Stored,
    targets: _Targets,
    sealer: Sealer,
    recent: Sealer,
    lifecycle: Lifecycle,
    watches: Watches,
    due_work: DueWork | None,
) -> SecretService:
    engine, editor, outbox, now = stored.engine, stored.editor, stored.outbox, clock.system_clock
    authorizer, access = stored.hosted.authorizer, targets.access

    def hasten(secret: ResourceName) -> None:
        if due_work is not None:
            due_work.hasten(rotation_item(secret))

    vault = Vault(engine, Readable(engine, stored.feed), recent, editor, outbox, now)
    rotations = Rotations(engine, editor, access, outbox, now, hasten)
    return SecretService(
        vault,
        Catalog(engine, editor, authorizer),
        Creation(engine, sealer, vault, editor, access, authorizer, outbox, now, hasten),
        lifecycle,
        rotations,
        Repairs(engine, editor, access, rotations, outbox, now),
        watches,
        authorizer,
        targets.rules,
    )


def _step_limits(settings: RotationSettings) -> StepLimits:
    return StepLimits(
        settings.step_seconds,
        settings.step_cpu_seconds,
        settings.step_memory_mib << 20,
        settings.step_answer_kib << 10,
        settings.steps_at_once,
        settings.target_share,
        RELAY_MIB << 20,
    )


def migrate(settings: SecretsSettings) -> None:
    """Brings the database to this release's schema."""
    migrations.migrate(database.open_database(settings.database), "secrets")


if __name__ == "__main__":
    preparation = command.Preparation("migrate", "bring the database to this release's schema", migrate)
    raise SystemExit(command.run("secrets", SecretsSettings, serve, preparation))
