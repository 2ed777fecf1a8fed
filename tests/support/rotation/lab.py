"""The rotation machine over a real database and a real Redis, put together as the service does it, without the mesh:
data keys come from a key of the lab's own, and everybody may do everything."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from opentelemetry.metrics import NoOpMeterProvider
from redis import Redis
from sqlalchemy import Engine, select

from services.runtime import clock
from services.runtime.access.authorization import Authorizer, Resource
from services.runtime.audit_client import AuditClient
from services.runtime.call import Call, Principal
from services.runtime.changes import ChangeFeed
from services.runtime.config import Database
from services.runtime.config import Telemetry as TelemetrySettings
from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.channels import MeshChannel
from services.runtime.mesh.tls import TlsFiles
from services.runtime.requests.names import ResourceName
from services.runtime.sensitive import SensitiveBytes
from services.runtime.storage import database, row_seals
from services.runtime.storage.outbox import Outbox
from services.runtime.storage.row_seals import RowSeals
from services.runtime.telemetry import Telemetry
from services.runtime.work.due_work import DueWork
from services.runtime.work.schedule import Schedule
from services.secrets.core import changes, store
from services.secrets.core.editing import SecretEditor
from services.secrets.core.model import CURRENT, DEFAULT_GRACE_SECONDS, Attempt, Rotation, Secret
from services.secrets.core.tables import outbox as outbox_table
from services.secrets.life.catalog import Catalog
from services.secrets.life.creating import Creation, NewSecret
from services.secrets.life.lifecycle import Lifecycle
from services.secrets.rotation import store as rotation_store
from services.secrets.rotation.machine import RotationWork
from services.secrets.rotation.metrics import RotationMetrics
from services.secrets.rotation.repairs import Repairs
from services.secrets.rotation.requests import Rotations
from services.secrets.rotation.rotators.choice import rotators
from services.secrets.rotation.rotators.rotator import Rotator, Supplies
from services.secrets.rotation.targets.access import TargetAccess
from services.secrets.rotation.targets.targets import TargetRules
from services.secrets.rotation.targets.workers import TargetWorkers, with_workers
from services.secrets.values.data_keys import DATA_KEY_BYTES, DataKey, encryption_context
from services.secrets.values.readable import Readable
from services.secrets.values.sealing import NewValue, Sealer
from services.secrets.values.shapes import as_value
from services.secrets.values.vault import Reading, Vault
from services.secrets.work.due import DueSecrets, rotation_item
from strongroom.audit.v1.event_pb2 import Event
from strongroom.secrets.v1.rotation_pb2 import ROTATION_STATE_SUCCEEDED, RotationPolicy
from strongroom.secrets.v1.secret_pb2 import VALUE_FORMAT_TEXT, SecretType
from strongroom.secrets.v1.target_pb2 import RotationTarget
from tests.support import databases

ACCOUNT = "lab"
PERSON = Principal("accounts/lab/users/someone", ACCOUNT)
KEY = bytes(range(32))

Wrap = Callable[[Rotator], Rotator]


def lab_seals() -> RowSeals:
    """Seals of rows under a key of the lab's own."""
    seals = RowSeals(Reason.SECRET_RECORD_REFUSED)
    seals.open(SensitiveBytes(KEY))
    return seals


class LocalDataKeys:
    """Data keys under a key of the lab's own. `failing` says what asking for them fails with."""

    def __init__(self) -> None:
        self.failing: StrongroomError | None = None

    def generate(self, _call: Call, _key: str, version: ResourceName) -> DataKey:
        self._fail()
        plaintext, nonce = os.urandom(DATA_KEY_BYTES), os.urandom(12)
        sealed = nonce + AESGCM(KEY).encrypt(nonce, plaintext, _binding(version))
        return DataKey(SensitiveBytes(plaintext), sealed, f"accounts/{ACCOUNT}/keys/k/versions/1")

    def open(self, _call: Call, ciphertext: bytes, version: ResourceName) -> SensitiveBytes:
        self._fail()
        try:
            return SensitiveBytes(AESGCM(KEY).decrypt(ciphertext[:12], ciphertext[12:], _binding(version)))
        except InvalidTag:
            raise StrongroomError(Reason.CIPHERTEXT_INVALID, "not this version's") from None

    def open_many(
        self, call: Call, wanted: Sequence[tuple[bytes, ResourceName]]
    ) -> list[SensitiveBytes | StrongroomError]:
        return [self.open(call, ciphertext, version) for ciphertext, version in wanted]

    def _fail(self) -> None:
        if self.failing is not None:
            raise self.failing


class Permits:
    """Permits everything, and records it."""

    def authorize(self, call: Call, action: str, resource: Resource, *_: Any, **__: Any) -> Event:
        return call.record(action, resource.name, resource.account)

    def principal_resource(self, name: str) -> Resource:
        return Resource("Workload", name, ACCOUNT)


class NoKeystore:
    """Where a lab has no keystore."""

    def method(self, *_: Any) -> Callable[..., Any]:
        def refuse(*_: Any, **__: Any) -> Any:
            raise StrongroomError(Reason.KEYSTORE_UNREACHABLE, "not in the lab")

        return refuse

    def close(self) -> None:
        pass


class NoAudit:
    """The outbox is never emptied, so that tests can read it."""

    def append(self, _events: Sequence[Event], _traceparent: str = "") -> None:
        raise StrongroomError(Reason.AUDIT_UNREACHABLE, "not in the lab")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a lab's data are; other processes open the same."""

    database_url: str
    redis_port: int
    schedule: str
    """Which of Redis's schedules."""
    keystore: str = ""
    """The internal address of a real keystore; only client keys need one."""


class Lab:
    """Everything of the secrets service below its handlers."""

    def __init__(
        self,
        place: Place,
        *,
        tls: TlsFiles | None = None,
        wrap: Wrap | None = None,
        clock: clock.Clock = clock.system_clock,
        lease_seconds: float = 0.5,
        first_retry_seconds: float = 0.05,
        threads: int = 1,
        workers: TargetWorkers | None = None,
    ) -> None:
        """With `workers`, steps at targets are done in their processes, as the service does them."""
        self.clock = clock
        self.engine: Engine = row_seals.sealed(database.open_database(Database(url=place.database_url)), lab_seals())
        self.data_keys = LocalDataKeys()
        self.sealer = Sealer(self.data_keys, clock)
        permits = cast(Authorizer, Permits())
        outbox = Outbox(self.engine, cast(AuditClient, NoAudit()))
        editor = SecretEditor(self.engine, permits, outbox, clock)
        self.keystore = MeshChannel(place.keystore, cast(TlsFiles, tls)) if place.keystore else NoKeystore()
        found = rotators(Supplies(cast(TlsFiles, tls), cast(MeshChannel, self.keystore)))
        if workers is not None:
            found = with_workers(found, workers, lambda: cast(TlsFiles, tls).current())
        if wrap is not None:
            found = {kind: wrap(rotator) for kind, rotator in found.items()}
        self.access = TargetAccess(self.engine, self.sealer, found)
        self.rules = TargetRules(["127.0.0.1"])
        # Nobody follows the changes, so what is read is read from the database.
        readable = Readable(self.engine, ChangeFeed(changes.followed(self.engine)))
        self.vault = Vault(self.engine, readable, self.sealer, editor, outbox, clock)
        self.catalog = Catalog(self.engine, editor, permits)
        self.lifecycle = Lifecycle(editor, self.access, self.rules)
        self.work = RotationWork(
            self.engine,
            self.sealer,
            self.access,
            outbox,
            RotationMetrics(NoOpMeterProvider().get_meter("lab")),
            clock,
            f"lab/{os.getpid()}",
            first_retry_seconds=first_retry_seconds,
        )
        telemetry = Telemetry("lab", TelemetrySettings(sample_ratio=0))
        self.redis = Redis(port=place.redis_port, socket_timeout=2, socket_connect_timeout=2)
        self.schedule = Schedule(self.redis, place.schedule)
        due = self.due = DueSecrets(self.engine, self.work, self.lifecycle, outbox, telemetry, clock)
        self.due_work = DueWork(
            self.schedule,
            due.due,
            due.handle,
            clock,
            threads=threads,
            lease_seconds=lease_seconds,
            overdue=due.overdue,
        )
        self.rotations = Rotations(self.engine, editor, self.access, outbox, clock, self.hasten)
        self.repairs = Repairs(self.engine, editor, self.access, self.rotations, outbox, clock)
        self.creation = Creation(
            self.engine, self.sealer, self.vault, editor, self.access, permits, outbox, clock, self.hasten
        )

    @classmethod
    def new(cls, place: Place, **options: Any) -> Lab:
        """A lab over an empty database."""
        engine = database.open_database(Database(url=place.database_url))
        databases.migrate(engine, "secrets")
        engine.dispose()
        return cls(place, **options)

    def close(self) -> None:
        self.keystore.close()
        self.redis.close()
        self.engine.dispose()

    def hasten(self, name: ResourceName) -> None:
        self.due_work.hasten(rotation_item(name))

    # --- what tests do

    def create(
        self,
        secret_id: str,
        kind: SecretType.ValueType,
        value: Mapping[str, Any] | bytes | None,
        target: RotationTarget | None = None,
        *,
        policy: RotationPolicy | None = None,
        grace_period_s: int = DEFAULT_GRACE_SECONDS,
        check_target: bool = True,
    ) -> Secret:
        name = ResourceName(ACCOUNT, "secrets", secret_id)
        target = self.rules.check(kind, target, ACCOUNT)
        new = NewSecret(name, kind, "", "", {}, 10, target, None, policy, grace_period_s)
        first = None
        if value is not None:
            content = value if isinstance(value, bytes) else as_value(value).reveal()
            first = NewValue(SensitiveBytes(content), VALUE_FORMAT_TEXT)
        return self.creation.create(person("CreateSecret"), new, first, check_target=check_target)

    def value(self, secret_id: str, stage: str = CURRENT) -> bytes:
        name = ResourceName(ACCOUNT, "secrets", secret_id)
        return self.vault.open(person("GetSecretValue"), Reading(name, stage, "")).value.reveal()

    def secret(self, secret_id: str) -> Secret:
        with database.reading(self.engine) as connection:
            found = store.secret(connection, ResourceName(ACCOUNT, "secrets", secret_id))
        assert found is not None
        return found

    def rotation(self, secret_id: str, number: int = 1) -> Rotation:
        with database.reading(self.engine) as connection:
            found = rotation_store.rotation(connection, ResourceName(ACCOUNT, "secrets", secret_id), number)
        assert found is not None
        return found

    def attempts(self, secret_id: str, number: int = 1) -> list[Attempt]:
        return self.rotations.with_attempts(self.rotation(secret_id, number))[1]

    def rotate(self, secret_id: str) -> Rotation:
        return self.rotations.rotate(person("RotateSecret"), ResourceName(ACCOUNT, "secrets", secret_id), None)

    def work_until_idle(self) -> None:
        """Does what is due now, and what comes of it at once."""
        self.due_work.fill()
        while self.due_work.work_once():
            pass

    def events(self) -> list[Event]:
        """What the outbox holds, oldest first."""
        with database.reading(self.engine) as connection:
            found = connection.execute(select(outbox_table.c.event).order_by(outbox_table.c.event_id)).scalars()
            return [Event.FromString(event) for event in found]


def person(method: str) -> Call:
    """A call of somebody's."""
    return Call("strongroom.secrets.v1.SecretService", method, f"secrets:{method}", principal=PERSON)


def _binding(version: ResourceName) -> bytes:
    return repr(sorted(encryption_context(version).items())).encode()


def rotated(lab: Lab, secret_id: str, number: int = 1) -> dict[str, str]:
    """The login that is Current once a secret was rotated, at the first try of every step."""
    lab.rotate(secret_id)
    lab.work_until_idle()
    attempts = lab.attempts(secret_id, number)
    assert [attempt.error_reason for attempt in attempts] == ["", "", "", ""], [a.error_detail for a in attempts]
    assert lab.rotation(secret_id, number).state == ROTATION_STATE_SUCCEEDED
    found: dict[str, str] = json.loads(lab.value(secret_id))
    return found
