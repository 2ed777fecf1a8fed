"""The secrets service: configuration → objects → server."""

from __future__ import annotations

import os
import socket

from services.runtime import clock
from services.runtime.changes import ChangeFeed
from services.runtime.errors import Reason
from services.runtime.hosting import command, components, host
from services.runtime.mesh.channels import MeshChannel
from services.runtime.mesh.tls import TlsFiles
from services.runtime.requests.names import ResourceName
from services.runtime.storage import database, migrations, row_seals
from services.runtime.storage.outbox import Outbox
from services.runtime.storage.record_keys import AuditRecordKey, RecordSealing
from services.runtime.storage.row_seals import RowSeals
from services.runtime.telemetry import Telemetry
from services.runtime.work.due_work import Aside, DueWork
from services.runtime.work.schedule import Schedule
from services.secrets.core import changes
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
from services.secrets.rotation.targets.workers import StepLimits, TargetWorkers, watch_targets, with_workers
from services.secrets.settings import RotationSettings, SecretsSettings
from services.secrets.values.data_keys import CryptoDataKeys
from services.secrets.values.readable import FRESH_SECONDS, Readable
from services.secrets.values.recent_data_keys import RecentDataKeys
from services.secrets.values.sealing import Sealer
from services.secrets.values.vault import Vault
from services.secrets.work.due import DueSecrets, rotation_item
from services.secrets.work.first_seals import seal_all
from strongroom.secrets.v1 import secret_service_pb2


def serve(settings: SecretsSettings) -> None:
    """Runs the service until SIGTERM."""
    telemetry = Telemetry("secrets", settings.telemetry)
    tls = TlsFiles(settings.tls)
    opened = database.open_database(settings.database)
    migrations.require_current(opened, "secrets")
    feed = ChangeFeed(
        changes.followed(opened),
        peer="database",
        stale=Reason.DATABASE_UNAVAILABLE,
        stale_seconds=FRESH_SECONDS,
    )
    seals = RowSeals(Reason.SECRET_RECORD_REFUSED)
    engine = row_seals.sealed(changes.heard(opened, feed.tell), seals)
    crypto = MeshChannel(host.upstream(settings, "crypto"), tls)
    keystore = MeshChannel(host.upstream(settings, "keystore"), tls)
    record_key = AuditRecordKey(MeshChannel(host.upstream(settings, "audit"), tls))
    sealing = RecordSealing(engine, record_key, seals, [seal_all])
    hosted = host.build("secrets", settings, tls, telemetry)
    outbox = Outbox(engine, hosted.audit, "services/secrets", telemetry.meter)
    hosted.status.component("outbox", outbox.check, vital=False)
    now = clock.system_clock
    rules = TargetRules(settings.rotation.plaintext_targets)
    data_keys = CryptoDataKeys(crypto)
    sealer = Sealer(data_keys, now)
    editor = SecretEditor(engine, hosted.authorizer, outbox, now)
    rotation = settings.rotation
    targets = TargetWorkers(_step_limits(rotation), telemetry.meter)
    hosted.on_close(targets.close)
    waiters = Waiters(rotation.waiting_calls, rotation.target_share)
    checks = TargetChecks(waiters, wait_seconds=rotation.check_wait_seconds)
    rotators = with_workers(choice.rotators(Supplies(tls, keystore)), targets, tls.current)
    access = TargetAccess(engine, sealer, rotators, waiters, checks, network=settings.network)
    # Rotation opens its values on the service's own behalf, seldom, and never from memory.
    recent = Sealer(RecentDataKeys(data_keys), now)
    vault = Vault(engine, Readable(engine, feed), recent, editor, outbox, now)
    lifecycle = Lifecycle(editor, access, rules)
    work = RotationWork(
        engine,
        sealer,
        access,
        outbox,
        RotationMetrics(telemetry.meter),
        now,
        f"{socket.gethostname()}/{os.getpid()}",
        first_retry_seconds=rotation.first_retry_seconds,
    )
    due_work = None
    if settings.redis is not None:
        client = components.redis_client(settings.redis)
        # Without it rotations are late, and everything else goes on.
        hosted.status.component("redis", components.redis(client), vital=False)
        hosted.on_close(client.close)
        due = DueSecrets(engine, work, lifecycle, outbox, telemetry, now)
        aside = Aside(due.account_of_target, rotation.target_threads, rotation.target_share)
        watch_targets(hosted.status, telemetry.meter, targets, aside)
        due_work = DueWork(
            Schedule(client, "secrets"),
            due.due,
            due.handle,
            now,
            threads=rotation.threads,
            lease_seconds=rotation.lease_seconds,
            aside=aside,
            overdue=due.overdue,
        )

    def hasten(secret: ResourceName) -> None:
        if due_work is not None:
            due_work.hasten(rotation_item(secret))

    rotations = Rotations(engine, editor, access, outbox, now, hasten)
    watches = Watches(engine, editor, hosted.authorizer, hosted.audit, now)
    service = SecretService(
        vault,
        Catalog(engine, editor, hosted.authorizer),
        Creation(engine, sealer, vault, editor, access, hosted.authorizer, outbox, now, hasten),
        lifecycle,
        rotations,
        Repairs(engine, editor, access, rotations, outbox, now),
        watches,
        hosted.authorizer,
        rules,
    )
    hosted.public(secret_service_pb2.DESCRIPTOR.services_by_name["SecretService"], service)
    hosted.status.component("database", components.database(engine))
    hosted.status.component("crypto", components.crypto(crypto))
    hosted.status.component("record key", seals.check)
    hosted.on_close(opened.dispose)
    hosted.on_close(feed.stop)
    hosted.on_close(outbox.stop)
    hosted.on_close(sealing.stop)
    hosted.on_close(checks.close)
    hosted.server.on_drain(watches.stop)
    sealing.start()
    outbox.start()
    feed.start()
    watches.start()
    if due_work is not None:
        hosted.on_close(due_work.stop)
        due_work.start()
    hosted.run()


def _step_limits(settings: RotationSettings) -> StepLimits:
    return StepLimits(
        settings.step_seconds,
        settings.step_cpu_seconds,
        settings.step_memory_mib << 20,
        settings.step_answer_kib << 10,
    )


def migrate(settings: SecretsSettings) -> None:
    """Brings the database to this release's schema."""
    migrations.migrate(database.open_database(settings.database), "secrets")


if __name__ == "__main__":
    preparation = command.Preparation("migrate", "bring the database to this release's schema", migrate)
    raise SystemExit(command.run("secrets", SecretsSettings, serve, preparation))
