"""A type of secret that one module declares works everywhere: it is created, rotated and repaired, and its target and
values are checked, with nothing else changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from services.runtime import clock
from services.runtime.access.authorization import Authorizer
from services.runtime.audit_client import AuditClient
from services.runtime.changes import ChangeFeed
from services.runtime.config import Database
from services.runtime.errors import StrongroomError
from services.runtime.mesh.tls import TlsFiles
from services.runtime.requests.names import ResourceName
from services.runtime.sensitive import SensitiveBytes
from services.runtime.storage import database, row_seals
from services.runtime.storage.outbox import Outbox
from services.secrets.core import changes
from services.secrets.core.editing import SecretEditor
from services.secrets.kinds import declared
from services.secrets.kinds.known import declarations
from services.secrets.life.creating import Creation, NewSecret
from services.secrets.rotation import store
from services.secrets.rotation.machine import RotationWork
from services.secrets.rotation.metrics import RotationMetrics
from services.secrets.rotation.repairs import Repairs
from services.secrets.rotation.requests import Rotations
from services.secrets.rotation.rotators.choice import rotators
from services.secrets.rotation.rotators.rotator import Supplies
from services.secrets.rotation.targets.access import TargetAccess
from services.secrets.rotation.targets.targets import TargetRules
from services.secrets.values.readable import Readable
from services.secrets.values.sealing import NewValue, Sealer
from services.secrets.values.vault import Reading, Vault
from strongroom.secrets.v1.rotation_pb2 import ROTATION_STATE_RUNNING, ROTATION_STATE_SUCCEEDED
from strongroom.secrets.v1.secret_pb2 import SECRET_TYPE_REDIS_ACL, VALUE_FORMAT_TEXT
from strongroom.secrets.v1.secret_service_pb2 import REPAIR_ACTION_PROMOTE_PENDING
from strongroom.secrets.v1.target_pb2 import RedisTarget, RotationTarget
from tests.support import databases
from tests.support.rotation.lab import ACCOUNT, LocalDataKeys, NoAudit, Permits, lab_seals, person

NAME = ResourceName(ACCOUNT, "secrets", "box")
TARGET = RotationTarget(redis=RedisTarget(username="b1"))


@pytest.fixture
def lockbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module, put where modules that declare types are found."""
    own = Path(__file__).parent / "own_rotator"
    monkeypatch.setattr(declared, "__path__", [*declared.__path__, str(own)])
    declarations.cache_clear()
    declarations()
    name = f"{declared.__name__}.lockbox"
    yield sys.modules[name]
    del sys.modules[name]
    declarations.cache_clear()


class Secrets:
    """What creates, rotates and repairs, over a database of its own."""

    def __init__(self, url: str) -> None:
        opened = database.open_database(Database(url=url))
        databases.migrate(opened, "secrets")
        self.engine = row_seals.sealed(opened, lab_seals())
        permits, now = cast(Authorizer, Permits()), clock.system_clock
        outbox = Outbox(self.engine, cast(AuditClient, NoAudit()))
        editor = SecretEditor(self.engine, permits, outbox, now)
        sealer = Sealer(LocalDataKeys(), now)
        self.access = TargetAccess(self.engine, sealer, rotators(Supplies(cast(TlsFiles, None))))
        readable = Readable(self.engine, ChangeFeed(changes.followed(self.engine)))
        self.vault = Vault(self.engine, readable, sealer, editor, outbox, now)
        metrics = RotationMetrics(NoOpMeterProvider().get_meter("test"))
        self.work = RotationWork(self.engine, sealer, self.access, outbox, metrics, now, "test")
        self.rotations = Rotations(self.engine, editor, self.access, outbox, now, lambda _: None)
        self.repairs = Repairs(self.engine, editor, self.access, self.rotations, outbox, now)
        self.creation = Creation(
            self.engine, sealer, self.vault, editor, self.access, permits, outbox, now, lambda _: None
        )

    def create(self, kind: Any, value: dict[str, str]) -> None:
        target = TargetRules().check(kind, TARGET, ACCOUNT)
        new = NewSecret(NAME, kind, "", "", {}, 10, target, None, None, 0)
        content = SensitiveBytes(json.dumps(value).encode())
        self.creation.create(person("CreateSecret"), new, NewValue(content, VALUE_FORMAT_TEXT))

    def rotate(self) -> None:
        self.rotations.rotate(person("RotateSecret"), NAME, None)

    def code(self) -> str:
        value = self.vault.open(person("GetSecretValue"), Reading(NAME, "", "")).value
        return str(json.loads(value.reveal())["code"])

    def state(self, number: int) -> int:
        with database.reading(self.engine) as connection:
            found = store.rotation(connection, NAME, number)
        assert found is not None
        return found.state


@pytest.fixture
def secrets(tmp_path: Path, lockbox: ModuleType) -> Iterator[Secrets]:
    lockbox.OPENS["b1"] = {"1234"}
    made = Secrets(f"sqlite:///{tmp_path}/data/secrets.db")
    made.create(lockbox.LOCKBOX, {"code": "1234"})
    yield made
    made.engine.dispose()


def test_it_is_created_and_rotated(secrets: Secrets, lockbox: ModuleType) -> None:
    secrets.rotate()
    assert secrets.work.work(NAME, clock.system_clock.now_us()) is None
    assert secrets.state(1) == ROTATION_STATE_SUCCEEDED
    assert lockbox.OPENS["b1"] == {secrets.code()} != {"1234"}


def test_it_is_repaired(secrets: Secrets, lockbox: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    secrets.rotate()
    with monkeypatch.context() as patched:
        patched.setattr(lockbox.Lockboxes, "test", interrupted)
        with pytest.raises(KeyboardInterrupt):
            secrets.work.work(NAME, clock.system_clock.now_us())
    assert secrets.state(1) == ROTATION_STATE_RUNNING
    # Somebody took the old code away meanwhile.
    lockbox.OPENS["b1"].discard("1234")
    repaired = secrets.repairs.repair(person("RepairSecret"), NAME, dry_run=False)
    assert repaired.action == REPAIR_ACTION_PROMOTE_PENDING
    assert {secrets.code()} == lockbox.OPENS["b1"]
    assert secrets.state(1) == ROTATION_STATE_SUCCEEDED


def test_its_target_and_its_values_are_checked(secrets: Secrets, lockbox: ModuleType) -> None:
    rules = TargetRules()
    with pytest.raises(StrongroomError) as refused:
        rules.check(lockbox.LOCKBOX, RotationTarget(redis=RedisTarget(username="too long a name")), ACCOUNT)
    assert refused.value.field == "secret.target.redis.username"
    with pytest.raises(StrongroomError) as refused:
        rules.check(lockbox.LOCKBOX, None, ACCOUNT)
    assert (refused.value.reason, refused.value.field) == ("FIELD_REQUIRED", "secret.target.redis")
    with pytest.raises(StrongroomError) as refused:
        secrets.vault.put(person("PutSecretValue"), NAME, NewValue(SensitiveBytes(b"{}"), VALUE_FORMAT_TEXT), [])
    assert refused.value.reason == "FIELD_INVALID"


@pytest.mark.usefixtures("lockbox")
def test_two_modules_cannot_declare_one_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "again.py").write_text("from services.secrets.kinds.declared.lockbox import DECLARATION\n")
    monkeypatch.setattr(declared, "__path__", [*declared.__path__, str(tmp_path)])
    declarations.cache_clear()
    with pytest.raises(ValueError, match="99 is declared twice"):
        declarations()


def test_what_is_declared_no_more_is_no_type() -> None:
    assert 99 not in declarations()
    assert SECRET_TYPE_REDIS_ACL in declarations()
