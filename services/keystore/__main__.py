"""The keystore service: configuration → objects → server."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from sqlalchemy import Engine

from services.keystore.access.accounts.accounts import Accounts
from services.keystore.access.accounts.ended_grants import EndedGrants
from services.keystore.access.accounts.identities import SpiffeIds
from services.keystore.access.accounts.oidc_providers import OidcProviders
from services.keystore.access.accounts.principals import Principals
from services.keystore.access.accounts.quotas import Quotas
from services.keystore.access.credentials import https_documents
from services.keystore.access.credentials.client_key_rotations import ClientKeyRotations
from services.keystore.access.credentials.client_keys import ClientKeys
from services.keystore.access.credentials.credentials import Credentials
from services.keystore.access.credentials.issuer_keys import IssuerKeys
from services.keystore.access.credentials.later_notes import ClientKeyUses, IssuerFetches
from services.keystore.access.credentials.new_sessions import NewSessions
from services.keystore.access.credentials.oidc import OidcTokens
from services.keystore.access.credentials.revocations import Revocations
from services.keystore.access.credentials.sessions import Sessions
from services.keystore.access.editing.editing import AccessEditor
from services.keystore.access.policies.grants import Grants
from services.keystore.access.policies.policies import Policies
from services.keystore.access.policies.simulation import Simulation
from services.keystore.access.records.reading import LocalAccessRecords
from services.keystore.handlers import session_service
from services.keystore.handlers.access_record_service import AccessRecordService
from services.keystore.handlers.account_service import AccountHandlers
from services.keystore.handlers.client_key_rotation_service import ClientKeyRotationService
from services.keystore.handlers.client_key_service import ClientKeyHandlers
from services.keystore.handlers.grant_service import GrantHandlers
from services.keystore.handlers.key_record_service import KeyRecordService
from services.keystore.handlers.key_service import KeyService
from services.keystore.handlers.oidc_provider_service import OidcProviderHandlers
from services.keystore.handlers.policy_service import PolicyHandlers
from services.keystore.handlers.principal_service import PrincipalHandlers
from services.keystore.handlers.quota_service import QuotaHandlers
from services.keystore.handlers.session_service import RevocationHandlers, SessionService
from services.keystore.handlers.simulation_service import SimulationHandlers
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
from services.keystore.settings import Bootstrap, KeystoreSettings, Oidc
from services.keystore.store import changes, tables
from services.keystore.store.destroyed import DestroyedInAudit
from services.keystore.work.bootstrap import FirstAccount, SecretsKey
from services.keystore.work.due import DueKeys
from services.keystore.work.first_seals import seal_all
from services.runtime import clock
from services.runtime.errors import Reason
from services.runtime.hosting import command, components, host
from services.runtime.hosting.host import Host
from services.runtime.mesh.channels import MeshChannel
from services.runtime.mesh.tls import TlsFiles
from services.runtime.storage import database, migrations, row_seals
from services.runtime.storage import outbox as outboxes
from services.runtime.storage.history import History
from services.runtime.storage.outbox import Outbox
from services.runtime.storage.record_keys import OUTBOX_IS_SEALED, AuditRecordKey, RecordSealing
from services.runtime.storage.row_seals import RowSeals
from services.runtime.telemetry import Telemetry
from services.runtime.work.bounded_redis import redis_client
from services.runtime.work.due_work import DueWork
from services.runtime.work.schedule import Schedule
from strongroom.access.v1 import (
    access_record_service_pb2,
    access_service_pb2,
    client_key_rotation_service_pb2,
    session_service_pb2,
)
from strongroom.keystore.v1 import key_record_service_pb2, key_service_pb2


@dataclass(frozen=True)
class _Stored:
    """What keystore's rooms work on: its sealed database, the runtime around it, and where changes are recorded."""

    engine: Engine
    destroyed: DestroyedInAudit
    hosted: Host
    outbox: Outbox


@dataclass(frozen=True)
class _Keys:
    """What is done with keys, by callers and by keystore itself."""

    keys: Keys
    lifecycle: Lifecycle
    versions: KeyVersions
    imports: Imports
    root_key: RootKey
    aliases: Aliases


def serve(settings: KeystoreSettings) -> None:
    """Runs the service until SIGTERM."""
    telemetry = Telemetry("keystore", settings.telemetry)
    database.count_second_connections(telemetry.meter)
    tls = TlsFiles(settings.tls)
    opened = database.open_database(settings.database)
    migrations.require_current(opened, "keystore")
    seals = RowSeals(Reason.ACCESS_RECORD_REFUSED)
    engine = row_seals.sealed(opened, seals)
    crypto = MeshChannel(host.upstream(settings, "crypto"), tls)
    audit = MeshChannel(host.upstream(settings, "audit"), tls)
    destroyed = DestroyedInAudit(audit)
    sealing = RecordSealing(
        engine, AuditRecordKey(audit), seals, [partial(seal_all, destroyed)], {OUTBOX_IS_SEALED: outboxes.seal_all}
    )
    records = LocalAccessRecords(engine, clock.system_clock)
    key_records = KeyRecordService(engine, destroyed, clock.system_clock)
    hosted = host.build("keystore", settings, tls, telemetry, records=records, list_changes=key_records.changes)
    outbox = Outbox(engine, hosted.audit, "services/keystore", telemetry.meter)
    hosted.status.component("outbox", outbox.check, vital=False)
    stored = _Stored(engine, destroyed, hosted, outbox)
    keys = _keys(settings, stored, crypto, audit)
    _offer_keys(hosted, keys, key_records)
    _offer_access(settings, stored, records)
    hosted.status.component("database", components.database(engine))
    hosted.status.component("record key", seals.check)
    # Keys that exist can be read and disabled without it.
    hosted.status.component("crypto", components.crypto(crypto), vital=False)
    due_work = _due_work(settings, stored, keys)
    hosted.on_close(opened.dispose)
    history = History(engine, changes.start_over, tables.revision)
    ended_grants = EndedGrants(AccessEditor(engine, hosted.authorizer, outbox, clock.system_clock))
    for stop in (outbox.stop, history.stop, ended_grants.stop, sealing.stop):
        hosted.on_close(stop)
    for work in (sealing, outbox, history, ended_grants):
        work.start()
    if due_work is not None:
        hosted.on_close(due_work.stop)
        due_work.start()
    if settings.bootstrap is not None:
        _set_up(settings.bootstrap, stored, keys)
    hosted.run()


def _operator(settings: KeystoreSettings) -> str:
    """The account whose administrators administer the mesh."""
    return settings.bootstrap.account if settings.bootstrap is not None else ""


def _keys(settings: KeystoreSettings, stored: _Stored, crypto: MeshChannel, audit: MeshChannel) -> _Keys:
    engine, authorizer, outbox, now = stored.engine, stored.hosted.authorizer, stored.outbox, clock.system_clock
    material = CryptoMaterial(crypto)
    editor = KeyEditor(engine, authorizer, outbox, stored.destroyed, now)
    return _Keys(
        Keys(engine, editor, material, authorizer, outbox, now),
        Lifecycle(editor),
        KeyVersions(engine, editor, material),
        Imports(engine, editor, material, now),
        RootKey(
            engine,
            material,
            ServiceKeys(audit),
            stored.destroyed,
            authorizer,
            outbox,
            _operator(settings),
            settings.root_settle_seconds,
            now,
        ),
        Aliases(engine, authorizer, outbox, now),
    )


def _offer_keys(hosted: Host, keys: _Keys, key_records: KeyRecordService) -> None:
    hosted.public(
        key_service_pb2.DESCRIPTOR.services_by_name["KeyService"],
        KeyService(
            keys.keys,
            keys.lifecycle,
            keys.versions,
            keys.imports,
            keys.root_key,
            keys.aliases,
            clock.system_clock,
        ),
    )
    hosted.internal(key_record_service_pb2.DESCRIPTOR.services_by_name["KeyRecordService"], key_records)


def _offer_access(settings: KeystoreSettings, stored: _Stored, records: LocalAccessRecords) -> None:
    engine, hosted, now = stored.engine, stored.hosted, clock.system_clock
    operator, spiffe_ids = _operator(settings), SpiffeIds(hosted.tls.trust_domain)
    editor = AccessEditor(engine, hosted.authorizer, stored.outbox, now)
    hosted.public(
        session_service_pb2.DESCRIPTOR.services_by_name["SessionService"],
        _sessions(settings.oidc, stored),
        RevocationHandlers(Revocations(editor)),
        exchanges=session_service.EXCHANGES,
    )
    hosted.public(
        access_service_pb2.DESCRIPTOR.services_by_name["AccessService"],
        AccountHandlers(Accounts(editor, operator), spiffe_ids),
        PrincipalHandlers(Principals(editor, operator, bind_any=settings.bind_any_spiffe_id), spiffe_ids),
        PolicyHandlers(Policies(editor, operator)),
        GrantHandlers(Grants(engine, hosted.authorizer, stored.outbox, now), now),
        ClientKeyHandlers(ClientKeys(editor), now),
        OidcProviderHandlers(OidcProviders(editor)),
        QuotaHandlers(Quotas(editor, mesh_resource(operator), settings.quota)),
        SimulationHandlers(Simulation(engine, hosted.authorizer, operator, now)),
    )
    hosted.internal(
        access_record_service_pb2.DESCRIPTOR.services_by_name["AccessRecordService"], AccessRecordService(records)
    )
    hosted.internal(
        client_key_rotation_service_pb2.DESCRIPTOR.services_by_name["ClientKeyRotationService"],
        ClientKeyRotationService(ClientKeyRotations(editor), now),
        audited=True,
    )


def _sessions(oidc: Oidc, stored: _Stored) -> SessionService:
    engine, hosted, now = stored.engine, stored.hosted, clock.system_clock
    get_document = partial(https_documents.get, private=oidc.private_networks, refused=oidc.refused_networks)
    uses, fetches, sessions = (
        ClientKeyUses(engine),
        IssuerFetches(engine),
        Sessions(engine, hosted.tls.trust_domain, now),
    )
    oidc_tokens = OidcTokens(engine, IssuerKeys(fetches, get_document, now), now)
    for work in (uses, fetches, sessions):
        hosted.on_close(work.stop)
        work.start()
    credentials = Credentials(engine, hosted.identities, oidc_tokens, uses, now)
    new_sessions = NewSessions(engine, sessions, hosted.authorizer, now)
    return SessionService(engine, credentials, new_sessions, hosted.authorizer, hosted.quotas)


def _due_work(settings: KeystoreSettings, stored: _Stored, keys: _Keys) -> DueWork | None:
    if settings.redis is None:
        return None
    hosted, now = stored.hosted, clock.system_clock
    client = redis_client(settings.redis)
    # Without it rotations and deletions are late, and everything else goes on.
    hosted.status.component("redis", components.redis(client), vital=False)
    hosted.on_close(client.close)
    due = DueKeys(
        stored.engine,
        keys.lifecycle,
        keys.versions,
        keys.imports,
        keys.root_key,
        now,
        stored.outbox,
        hosted.telemetry,
    )
    schedule = Schedule(client, "keystore")
    return DueWork(schedule, due.due, due.handle, now, due_now=due.due_now, overdue=due.overdue)


def _set_up(settings: Bootstrap, stored: _Stored, keys: _Keys) -> None:
    first_account = FirstAccount(stored.engine, settings, stored.outbox, clock.system_clock)
    stored.hosted.status.component("first account", first_account.check)
    secrets_key = SecretsKey(stored.engine, settings.account, keys.keys, keys.aliases)
    for made in (first_account, secrets_key):
        stored.hosted.on_close(made.stop)
        made.start()


def migrate(settings: KeystoreSettings) -> None:
    """Brings the database to this release's schema."""
    migrations.migrate(database.open_database(settings.database), "keystore")


if __name__ == "__main__":
    preparation = command.Preparation("migrate", "bring the database to this release's schema", migrate)
    raise SystemExit(command.run("keystore", KeystoreSettings, serve, preparation))
