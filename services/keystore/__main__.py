"""The keystore service: configuration → objects → server."""

from __future__ import annotations

from functools import partial

from services.keystore.access.accounts.accounts import Accounts
from services.keystore.access.accounts.identities import SpiffeIds
from services.keystore.access.accounts.oidc_providers import OidcProviders
from services.keystore.access.accounts.principals import Principals
from services.keystore.access.accounts.quotas import Quotas
from services.keystore.access.credentials import https_documents
from services.keystore.access.credentials.client_key_rotations import ClientKeyRotations
from services.keystore.access.credentials.client_keys import ClientKeys
from services.keystore.access.credentials.credentials import Credentials
from services.keystore.access.credentials.issuer_keys import IssuerKeys
from services.keystore.access.credentials.new_sessions import NewSessions
from services.keystore.access.credentials.oidc import OidcTokens
from services.keystore.access.credentials.sessions import Sessions
from services.keystore.access.editing.editing import AccessEditor
from services.keystore.access.policies.grants import Grants
from services.keystore.access.policies.policies import Policies
from services.keystore.access.policies.simulation import Simulation
from services.keystore.access.records.reading import LocalAccessRecords
from services.keystore.handlers import session_service
from services.keystore.handlers.access_record_service import AccessRecordService
from services.keystore.handlers.access_service import AccessService
from services.keystore.handlers.client_key_rotation_service import ClientKeyRotationService
from services.keystore.handlers.key_record_service import KeyRecordService
from services.keystore.handlers.key_service import KeyService
from services.keystore.handlers.session_service import SessionService
from services.keystore.keys.aliases import Aliases
from services.keystore.keys.editing import KeyEditor
from services.keystore.keys.imports import Imports
from services.keystore.keys.key_versions import KeyVersions
from services.keystore.keys.keys import Keys
from services.keystore.keys.lifecycle import Lifecycle
from services.keystore.keys.material import CryptoMaterial
from services.keystore.mesh import mesh_resource
from services.keystore.root_key.rotation import RootKey
from services.keystore.root_key.service_keys import ServiceKeys
from services.keystore.settings import KeystoreSettings
from services.keystore.store.destroyed import DestroyedInAudit
from services.keystore.work.bootstrap import FirstAccount, SecretsKey
from services.keystore.work.due import DueKeys
from services.keystore.work.first_seals import seal_all
from services.runtime import clock
from services.runtime.errors import Reason
from services.runtime.hosting import command, components, host
from services.runtime.mesh.channels import MeshChannel
from services.runtime.mesh.tls import TlsFiles
from services.runtime.storage import database, migrations, row_seals
from services.runtime.storage.outbox import Outbox
from services.runtime.storage.record_keys import AuditRecordKey, RecordSealing
from services.runtime.storage.row_seals import RowSeals
from services.runtime.telemetry import Telemetry
from services.runtime.work.due_work import DueWork
from services.runtime.work.schedule import Schedule
from strongroom.access.v1 import (
    access_record_service_pb2,
    access_service_pb2,
    client_key_rotation_service_pb2,
    session_service_pb2,
)
from strongroom.keystore.v1 import key_record_service_pb2, key_service_pb2


def serve(settings: KeystoreSettings) -> None:
    """Runs the service until SIGTERM."""
    telemetry = Telemetry("keystore", settings.telemetry)
    tls = TlsFiles(settings.tls)
    opened = database.open_database(settings.database)
    migrations.require_current(opened, "keystore")
    seals = RowSeals(Reason.ACCESS_RECORD_REFUSED)
    engine = row_seals.sealed(opened, seals)
    crypto = MeshChannel(host.upstream(settings, "crypto"), tls)
    audit = MeshChannel(host.upstream(settings, "audit"), tls)
    destroyed = DestroyedInAudit(audit)
    sealing = RecordSealing(engine, AuditRecordKey(audit), seals, [partial(seal_all, destroyed)])
    records = LocalAccessRecords(engine, clock.system_clock)
    key_records = KeyRecordService(engine, destroyed, clock.system_clock)
    hosted = host.build("keystore", settings, tls, telemetry, records=records, list_changes=key_records.changes)
    outbox = Outbox(engine, hosted.audit, "services/keystore", telemetry.meter)
    hosted.status.component("outbox", outbox.check, vital=False)
    material = CryptoMaterial(crypto)
    editor = KeyEditor(engine, hosted.authorizer, outbox, destroyed, clock.system_clock)
    keys = Keys(engine, editor, material, hosted.authorizer, outbox, clock.system_clock)
    lifecycle = Lifecycle(editor)
    versions = KeyVersions(engine, editor, material)
    imports = Imports(engine, editor, material, clock.system_clock)
    # Whose administrators administer the mesh.
    operator = settings.bootstrap.account if settings.bootstrap is not None else ""
    root_key = RootKey(
        engine,
        material,
        ServiceKeys(audit),
        destroyed,
        hosted.authorizer,
        outbox,
        operator,
        settings.root_settle_seconds,
        clock.system_clock,
    )
    aliases = Aliases(engine, hosted.authorizer, outbox, clock.system_clock)
    oidc = settings.oidc
    get_document = partial(https_documents.get, private=oidc.private_networks, refused=oidc.refused_networks)
    oidc_tokens = OidcTokens(engine, IssuerKeys(engine, get_document, clock.system_clock), clock.system_clock)
    credentials = Credentials(engine, hosted.identities, oidc_tokens, clock.system_clock)
    sessions = Sessions(engine, tls.trust_domain, clock.system_clock)
    new_sessions = NewSessions(engine, sessions, hosted.authorizer, clock.system_clock)
    hosted.public(
        key_service_pb2.DESCRIPTOR.services_by_name["KeyService"],
        KeyService(keys, lifecycle, versions, imports, root_key, aliases, clock.system_clock),
    )
    hosted.public(
        session_service_pb2.DESCRIPTOR.services_by_name["SessionService"],
        SessionService(engine, credentials, new_sessions, hosted.authorizer, hosted.quotas),
        session_service.EXCHANGES,
    )
    access_editor = AccessEditor(engine, hosted.authorizer, outbox, clock.system_clock)
    grants = Grants(engine, hosted.authorizer, outbox, clock.system_clock)
    access = AccessService(
        Accounts(access_editor, operator),
        Principals(access_editor, operator),
        Policies(access_editor, operator),
        grants,
        ClientKeys(access_editor),
        OidcProviders(access_editor),
        Quotas(access_editor, mesh_resource(operator), settings.quota),
        Simulation(engine, hosted.authorizer, operator, clock.system_clock),
        SpiffeIds(tls.trust_domain),
        clock.system_clock,
    )
    hosted.public(access_service_pb2.DESCRIPTOR.services_by_name["AccessService"], access)
    hosted.internal(key_record_service_pb2.DESCRIPTOR.services_by_name["KeyRecordService"], key_records)
    hosted.internal(
        access_record_service_pb2.DESCRIPTOR.services_by_name["AccessRecordService"], AccessRecordService(records)
    )
    hosted.internal(
        client_key_rotation_service_pb2.DESCRIPTOR.services_by_name["ClientKeyRotationService"],
        ClientKeyRotationService(ClientKeyRotations(access_editor), clock.system_clock),
        audited=True,
    )
    hosted.status.component("database", components.database(engine))
    hosted.status.component("record key", seals.check)
    # Keys that exist can be read and disabled without it.
    hosted.status.component("crypto", components.crypto(crypto), vital=False)
    due_work = None
    if settings.redis is not None:
        client = components.redis_client(settings.redis)
        # Without it rotations and deletions are late, and everything else goes on.
        hosted.status.component("redis", components.redis(client), vital=False)
        hosted.on_close(client.close)
        keys_due = DueKeys(engine, lifecycle, versions, imports, root_key, clock.system_clock, outbox, telemetry)
        schedule = Schedule(client, "keystore")
        due_work = DueWork(
            schedule,
            keys_due.due,
            keys_due.handle,
            clock.system_clock,
            due_now=keys_due.due_now,
            overdue=keys_due.overdue,
        )
    hosted.on_close(opened.dispose)
    hosted.on_close(outbox.stop)
    hosted.on_close(sealing.stop)
    sealing.start()
    outbox.start()
    if due_work is not None:
        hosted.on_close(due_work.stop)
        due_work.start()
    if settings.bootstrap is not None:
        first_account = FirstAccount(engine, settings.bootstrap, outbox, clock.system_clock)
        hosted.status.component("first account", first_account.check)
        secrets_key = SecretsKey(engine, settings.bootstrap.account, keys, aliases)
        for made in (first_account, secrets_key):
            hosted.on_close(made.stop)
            made.start()
    hosted.run()


def migrate(settings: KeystoreSettings) -> None:
    """Brings the database to this release's schema."""
    migrations.migrate(database.open_database(settings.database), "keystore")


if __name__ == "__main__":
    preparation = command.Preparation("migrate", "bring the database to this release's schema", migrate)
    raise SystemExit(command.run("keystore", KeystoreSettings, serve, preparation))
