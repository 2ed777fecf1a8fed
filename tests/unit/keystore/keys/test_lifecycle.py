"""Random lives of a key against a model, on a real database."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.keystore.keys.editing import KeyEditor
from services.keystore.keys.imports import Imports
from services.keystore.keys.key_versions import KeyVersions
from services.keystore.keys.keys import Keys, NewKey
from services.keystore.keys.lifecycle import Lifecycle
from services.keystore.keys.material import ImportedMaterial, ImportParameters, ImportToken, WrappedMaterial
from services.keystore.store import store
from services.keystore.store.model import Key
from services.runtime.access.authorization import Authorizer
from services.runtime.audit_client import AuditClient
from services.runtime.call import Call, Principal
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.storage.database import open_database, reading
from services.runtime.storage.outbox import Outbox
from strongroom.crypto.v1 import material_pb2 as pb
from strongroom.keystore.v1 import key_pb2 as k
from tests.support import databases
from tests.support.clocks import ClockOf
from tests.support.everybody import Everybody
from tests.support.sealing import DestroyedHere, sealed

NAME = ResourceName("default", "keys", "payments")
WEEK_S = int(timedelta(days=7).total_seconds())
OF_KEY = {
    k.KEY_STATE_ENABLED: "ENABLED",
    k.KEY_STATE_DISABLED: "DISABLED",
    k.KEY_STATE_PENDING_DELETION: "PENDING",
    k.KEY_STATE_PENDING_IMPORT: "WAITING",
    k.KEY_STATE_DESTROYED: "DESTROYED",
}
OF_VERSION = {
    k.KEY_VERSION_STATE_ENABLED: "ENABLED",
    k.KEY_VERSION_STATE_DISABLED: "DISABLED",
    k.KEY_VERSION_STATE_PENDING_IMPORT: "WAITING",
    k.KEY_VERSION_STATE_PENDING_DESTRUCTION: "DOOMED",
    k.KEY_VERSION_STATE_DESTROYED: "DESTROYED",
}


class Wrapper:
    """Material that says what it is for."""

    def create(self, key: Key, version: int) -> WrappedMaterial:
        return WrappedMaterial(f"{key.name}/{version}".encode(), b"", 1)

    def begin_import(
        self, key: Key, version: int, method: k.ImportMethod.ValueType, expire_us: int
    ) -> ImportParameters:
        request = pb.ImportMaterialRequest(binding=pb.MaterialBinding(key_name=str(key.name), version=version))
        return ImportParameters(b"", k.PROTECTION_LEVEL_SOFTWARE, request.SerializeToString())

    def finish_import(self, key: Key, token: ImportToken, encrypted: bytes, fingerprint: bytes) -> ImportedMaterial:
        if fingerprint and fingerprint != encrypted:
            raise StrongroomError(Reason.IMPORT_MATERIAL_MISMATCH, "other material")
        return ImportedMaterial(self.create(key, token.version), encrypted)


@dataclass
class Model:
    """A key as a person would note it down."""

    state: str = "ENABLED"
    protected: bool = False
    description: str = ""
    period_s: int | None = None
    primary: int = 1
    versions: dict[int, str] = field(default_factory=lambda: {1: "ENABLED"})
    external: bool = False
    known: dict[int, bytes] = field(default_factory=dict)
    """What was imported first, by version."""
    expiries_s: dict[int, int] = field(default_factory=dict)
    dooms_s: dict[int, int] = field(default_factory=dict)
    """When versions are destroyed that wait for it."""
    empty: set[int] = field(default_factory=set)
    """Versions that lost their material while they waited to be destroyed."""

    def lose(self, number: int) -> None:
        self.expiries_s.pop(number, None)
        if self.versions[number] == "DOOMED":
            self.empty.add(number)
            return
        self.versions[number] = "WAITING"
        if number == self.primary and self.state != "PENDING":
            self.state = "WAITING"

    def save(self, number: int) -> None:
        self.versions[number] = "WAITING" if number in self.empty else "DISABLED"
        self.empty.discard(number)
        self.dooms_s.pop(number)

    def destroy(self, number: int) -> None:
        self.versions[number] = "DESTROYED"
        self.expiries_s.pop(number, None)
        self.dooms_s.pop(number, None)


class Lives(RuleBasedStateMachine):
    """Steps of one key's life; what the model forbids has to be refused, and to change nothing."""

    @initialize(external=st.booleans())
    def make(self, external: bool) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.engine = sealed(open_database(Database(url=f"sqlite:///{Path(self.directory.name) / 'keystore.db'}")))
        databases.migrate(self.engine, "keystore")
        self.now_s = 1_000_000_000
        self.clock = ClockOf(lambda: self.now_s * 1_000_000)
        authorizer = cast(Authorizer, Everybody())
        outbox = Outbox(self.engine, cast(AuditClient, None))
        editor = KeyEditor(self.engine, authorizer, outbox, DestroyedHere(), self.clock)
        self.lifecycle = Lifecycle(editor)
        self.versions = KeyVersions(self.engine, editor, Wrapper())
        self.imports = Imports(self.engine, editor, Wrapper(), self.clock)
        keys = Keys(self.engine, editor, Wrapper(), authorizer, outbox, self.clock)
        new = NewKey(
            NAME,
            k.KEY_SPEC_AES_256,
            k.KEY_USAGE_ENCRYPT_DECRYPT,
            k.PROTECTION_LEVEL_SOFTWARE,
            k.KEY_ORIGIN_EXTERNAL if external else k.KEY_ORIGIN_STRONGROOM,
            "",
            {},
            deletion_protection=False,
        )
        self.key = keys.create(self.call(), new)
        self.model = Model("WAITING", versions={1: "WAITING"}, external=True) if external else Model()

    def teardown(self) -> None:
        self.engine.dispose()
        self.directory.cleanup()

    def call(self) -> Call:
        return Call("test", "Test", "keystore:Test", principal=Principal("services/keystore", ""))

    def step(self, legal: bool, work: Callable[[Call], Any], *reasons: Reason) -> bool:
        """Does `work`, which succeeds just when it is legal."""
        try:
            work(self.call())
        except StrongroomError as error:
            assert not legal, error
            assert error.reason in (reasons or (Reason.KEY_STATE_INVALID,))
            return False
        assert legal
        return True

    @rule()
    def enable(self) -> None:
        legal = self.model.state in ("ENABLED", "DISABLED")
        if self.step(legal, lambda call: self.lifecycle.enable(call, NAME)):
            self.model.state = "ENABLED"

    @rule()
    def disable(self) -> None:
        legal = self.model.state in ("ENABLED", "DISABLED")
        if self.step(legal, lambda call: self.lifecycle.disable(call, NAME)):
            self.model.state = "DISABLED"

    @rule(protected=st.booleans())
    def protect(self, protected: bool) -> None:
        legal = self.model.state in ("ENABLED", "DISABLED", "WAITING")
        if self.step(legal, lambda call: self.lifecycle.protect(call, NAME, protected=protected)):
            self.model.protected = protected

    @rule(text=st.sampled_from(["", "for payments"]))
    def describe(self, text: str) -> None:
        legal = self.model.state != "DESTROYED"
        if self.step(legal, lambda call: self.lifecycle.describe(call, NAME, text, "")):
            self.model.description = text

    @rule(period_s=st.sampled_from([None, WEEK_S]))
    def plan_rotation(self, period_s: int | None) -> None:
        standing = self.model.state in ("ENABLED", "DISABLED", "WAITING")
        legal = standing and (period_s is None or not self.model.external)
        reasons = (Reason.KEY_STATE_INVALID, Reason.FIELD_INVALID)
        if self.step(legal, lambda call: self.lifecycle.plan_rotation(call, NAME, period_s), *reasons):
            self.model.period_s = period_s

    @rule()
    def rotate(self) -> None:
        legal = self.model.state == "ENABLED" and "WAITING" not in self.model.versions.values()
        reasons = (Reason.KEY_STATE_INVALID, Reason.KEY_DISABLED)
        if self.step(legal, lambda call: self.versions.create(call, NAME), *reasons):
            added = len(self.model.versions) + 1
            self.model.versions[added] = "WAITING" if self.model.external else "ENABLED"
            self.model.primary = self.model.primary if self.model.external else added

    @rule()
    def schedule_deletion(self) -> None:
        legal = self.model.state in ("ENABLED", "DISABLED", "WAITING") and not self.model.protected
        reasons = (Reason.KEY_STATE_INVALID, Reason.DELETION_PROTECTED)
        if self.step(legal, lambda call: self.lifecycle.schedule_deletion(call, NAME, WEEK_S), *reasons):
            self.model.state = "PENDING"
            self.delete_s = self.now_s + WEEK_S

    @rule()
    def cancel_deletion(self) -> None:
        if self.step(self.model.state == "PENDING", lambda call: self.lifecycle.cancel_deletion(call, NAME)):
            waiting = self.model.versions[self.model.primary] == "WAITING"
            self.model.state = "WAITING" if waiting else "DISABLED"

    @rule(days=st.integers(min_value=0, max_value=4))
    def days_pass(self, days: int) -> None:
        self.now_s += days * 86_400
        self.imports.expire_due(self.call(), self.key)
        for number in [number for number, at_s in self.model.expiries_s.items() if at_s <= self.now_s]:
            self.model.lose(number)
        self.lifecycle.destroy_due(self.call(), self.key)
        if self.model.state == "PENDING" and self.now_s >= self.delete_s:
            self.model.state = "DESTROYED"
            for number in self.model.versions:
                self.model.destroy(number)
        self.versions.destroy_due(self.call(), self.key)
        for number in [number for number, at_s in self.model.dooms_s.items() if at_s <= self.now_s]:
            (self.model.save if self.model.protected else self.model.destroy)(number)

    @rule(number=st.integers(1, 4), material=st.sampled_from([b"a", b"b"]), days=st.none() | st.integers(1, 9))
    def import_material(self, number: int, material: bytes, days: int | None) -> None:
        ended = self.model.versions.get(number) in ("DESTROYED", "DOOMED")
        possible = self.changeable(number) and self.model.external and not ended
        legal = possible and self.model.known.get(number, material) == material
        expires_us = None if days is None else (self.now_s + days * 86_400) * 1_000_000
        token = Wrapper().begin_import(self.key, number, k.IMPORT_METHOD_UNSPECIFIED, 0).token
        reasons = (*self.missing(number), Reason.IMPORT_MATERIAL_MISMATCH)
        if self.step(legal, lambda call: self.imports.finish(call, NAME, token, material, expires_us), *reasons):
            self.model.known[number] = material
            self.model.expiries_s.pop(number, None)
            if days is not None:
                self.model.expiries_s[number] = self.now_s + days * 86_400
            if self.model.versions[number] == "WAITING":
                self.model.versions[number] = "ENABLED"
                if number == self.model.primary:
                    self.model.state = "ENABLED"

    @rule(number=st.integers(min_value=1, max_value=4))
    def delete_material(self, number: int) -> None:
        possible = self.changeable(number) and self.model.external and not self.model.protected
        legal = possible and self.model.versions[number] in ("ENABLED", "DISABLED", "DOOMED")
        reasons = (*self.missing(number), Reason.DELETION_PROTECTED)
        if self.step(legal, lambda call: self.imports.delete(call, self.version(number)), *reasons):
            self.model.lose(number)

    @rule(number=st.integers(min_value=1, max_value=4))
    def enable_version(self, number: int) -> None:
        legal = self.changeable(number) and self.model.versions[number] == "DISABLED"
        if self.step(legal, lambda call: self.versions.enable(call, self.version(number)), *self.missing(number)):
            self.model.versions[number] = "ENABLED"

    @rule(number=st.integers(min_value=1, max_value=4))
    def disable_version(self, number: int) -> None:
        legal = self.changeable(number) and number != self.model.primary and self.model.versions[number] == "ENABLED"
        if self.step(legal, lambda call: self.versions.disable(call, self.version(number)), *self.missing(number)):
            self.model.versions[number] = "DISABLED"

    @rule(number=st.integers(min_value=1, max_value=4))
    def destroy_version(self, number: int) -> None:
        idle = self.changeable(number) and self.model.versions[number] in ("DISABLED", "WAITING", "DOOMED")
        legal = idle and number != self.model.primary and not self.model.protected
        reasons = (*self.missing(number), Reason.DELETION_PROTECTED)
        if self.step(legal, lambda call: self.versions.destroy(call, self.version(number)), *reasons):
            self.model.destroy(number)

    @rule(number=st.integers(min_value=1, max_value=4))
    def plan_destruction(self, number: int) -> None:
        idle = self.changeable(number) and self.model.versions[number] == "DISABLED"
        legal = idle and number != self.model.primary and not self.model.protected
        reasons = (*self.missing(number), Reason.DELETION_PROTECTED)
        if self.step(legal, lambda call: self.versions.destroy(call, self.version(number), WEEK_S), *reasons):
            self.model.versions[number] = "DOOMED"
            self.model.dooms_s[number] = self.now_s + WEEK_S

    @rule(number=st.integers(min_value=1, max_value=4))
    def cancel_destruction(self, number: int) -> None:
        legal = self.changeable(number) and self.model.versions[number] == "DOOMED"
        cancel = self.versions.cancel_destruction
        if self.step(legal, lambda call: cancel(call, self.version(number)), *self.missing(number)):
            self.model.save(number)

    @rule(number=st.integers(min_value=1, max_value=4))
    def choose(self, number: int) -> None:
        legal = self.changeable(number) and self.model.versions[number] == "ENABLED"
        if self.step(legal, lambda call: self.versions.set_primary(call, self.version(number)), *self.missing(number)):
            self.model.primary = number
            self.model.state = "ENABLED" if self.model.state == "WAITING" else self.model.state

    def changeable(self, number: int) -> bool:
        return self.model.state in ("ENABLED", "DISABLED", "WAITING") and number in self.model.versions

    def missing(self, number: int) -> tuple[Reason, ...]:
        if number in self.model.versions:
            return (Reason.KEY_STATE_INVALID,)
        return (Reason.KEY_STATE_INVALID, Reason.KEY_VERSION_NOT_FOUND)

    def version(self, number: int) -> ResourceName:
        return ResourceName(NAME.account, NAME.collection, NAME.id, number)

    @invariant()
    def the_store_is_as_the_model(self) -> None:
        with reading(self.engine) as connection:
            key = store.key_by_uid(connection, self.key.uid)
            versions = store.versions(connection, self.key.uid)
        assert key is not None
        stored = {version.version: OF_VERSION[version.state] for version in versions}
        assert (OF_KEY[key.state], key.deletion_protection) == (self.model.state, self.model.protected)
        assert (key.description, key.rotation_period_s) == (self.model.description, self.model.period_s)
        assert (key.next_rotate_us is not None) == (self.model.period_s is not None and self.model.state == "ENABLED")
        assert (key.primary_version, stored) == (self.model.primary, self.model.versions)
        # Material is there as long as its version is not destroyed or waits for some, and then no longer.
        with_material = {version.version for version in versions if version.wrapped}
        whole = {number for number, state in stored.items() if state in ("ENABLED", "DISABLED", "DOOMED")}
        assert with_material == whole - self.model.empty
        planned_s = {one.version: (one.destroyed_us or 0) // 1_000_000 for one in versions if one.wrapped}
        assert {number: at_s for number, at_s in planned_s.items() if at_s} == {
            number: at_s for number, at_s in self.model.dooms_s.items() if number not in self.model.empty
        }
        expiries_s = {version.version: version.expires_us // 1_000_000 for version in versions if version.expires_us}
        assert expiries_s == self.model.expiries_s
        assert key.expires_us == versions[key.primary_version - 1].expires_us


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_versions_wait_for_their_destruction_and_may_be_saved_from_it() -> None:
    life = Lives()
    life.make(external=False)
    try:
        for _ in range(3):
            life.rotate()
        for number in (1, 2, 3):
            life.disable_version(number)
            life.plan_destruction(number)
            life.enable_version(number)
            life.the_store_is_as_the_model()
        life.days_pass(4)
        life.cancel_destruction(1)
        life.destroy_version(2)
        life.the_store_is_as_the_model()
        assert life.model.versions == {1: "DISABLED", 2: "DESTROYED", 3: "DOOMED", 4: "ENABLED"}
        life.days_pass(4)
        life.the_store_is_as_the_model()
        assert life.model.versions[3] == "DESTROYED"
        assert life.model.versions[1] == "DISABLED"
    finally:
        life.teardown()


def test_a_key_that_is_protected_meanwhile_keeps_its_versions() -> None:
    life = Lives()
    life.make(external=False)
    try:
        life.rotate()
        life.disable_version(1)
        life.plan_destruction(1)
        life.protect(protected=True)
        life.days_pass(4)
        life.days_pass(4)
        life.the_store_is_as_the_model()
        assert life.model.versions[1] == "DISABLED"
    finally:
        life.teardown()


def test_material_that_expires_meanwhile_is_waited_for_afterwards() -> None:
    life = Lives()
    life.make(external=True)
    try:
        life.import_material(1, b"a", None)
        life.rotate()
        life.import_material(2, b"a", None)
        life.choose(2)
        life.import_material(1, b"a", 3)
        life.disable_version(1)
        life.plan_destruction(1)
        life.days_pass(4)
        life.the_store_is_as_the_model()
        life.cancel_destruction(1)
        life.the_store_is_as_the_model()
        assert life.model.versions[1] == "WAITING"
    finally:
        life.teardown()
