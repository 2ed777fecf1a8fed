"""The keystore service: configuration → objects → server."""

from __future__ import annotations

from functools import partial

from services.keystore import session_service
from services.keystore.access import https_documents
from services.keystore.access.accounts import Accounts
from services.keystore.access.client_key_rotations import ClientKeyRotations
from services.keystore.access.client_keys import ClientKeys
from services.keystore.access.credentials import Credentials
from services.keystore.access.editing import AccessEditor
from services.keystore.access.grants import Grants
from services.keystore.access.identities import SpiffeIds
from services.keystore.access.issuer_keys import IssuerKeys
from services.keystore.access.new_sessions import NewSessions
from services.keystore.access.oidc import OidcTokens
from services.keystore.access.oidc_providers import OidcProviders
from services.keystore.access.policies import Policies
from services.keystore.access.principals import Principals
from services.keystore.access.quotas import Quotas
from services.keystore.access.records import LocalAccessRecords
from services.keystore.access.sessions import Sessions
from services.keystore.access.simulation import Simulation
from services.keystore.access_record_service import AccessRecordService
from services.keystore.access_service import AccessService
from services.keystore.aliases import Aliases
from services.keystore.bootstrap import FirstAccount, SecretsKey
from services.keystore.client_key_rotation_service import ClientKeyRotationService
from services.keystore.destroyed import DestroyedInAudit
from services.keystore.due import DueKeys
from services.keystore.editing import KeyEditor
from services.keystore.first_seals import seal_all
from services.keystore.imports import Imports
from services.keystore.key_versions import KeyVersions
from services.keystore.keys import Keys
from services.keystore.lifecycle import Lifecycle
from services.keystore.material import CryptoMaterial
from services.keystore.mesh import mesh_resource
from services.keystore.record_service import KeyRecordService
from services.keystore.root_key import RootKey
from services.keystore.service import KeyService
from services.keystore.service_keys import ServiceKeys
from services.keystore.session_service import SessionService
from services.keystore.settings import KeystoreSettings
from services.runtime import clock, command, components, database, host, migrations, row_seals
from services.runtime.channels import MeshChannel
from services.runtime.due_work import DueWork
from services.runtime.errors import Reason
from services.runtime.outbox import Outbox
from services.runtime.record_keys import AuditRecordKey, RecordSealing
from services.runtime.row_seals import RowSeals
from services.runtime.schedule import Schedule
from services.runtime.telemetry import Telemetry
from services.runtime.tls import TlsFiles
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
