"""A rotation of the root key destroys an old version only once crypto has opened everything that there should be under
a newer one, whatever keystore's database says of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import Engine, create_engine, text

from services.keystore.keys.material import Rewrapped
from services.keystore.root_key import store as root_store
from services.keystore.root_key.rotation import RootKey
from services.keystore.store import store
from services.keystore.store.model import Key, Version
from services.runtime.call import Call, Principal
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.storage.database import reading, transaction
from services.runtime.storage.outbox import Outbox
from strongroom.keystore.v1 import key_pb2 as k
from strongroom.keystore.v1 import root_key_pb2 as pb
from tests.support.clocks import StillClock
from tests.support.everybody import Everybody
from tests.support.sealing import DestroyedHere

NOW_US = 1_000_000_000_000_000
SETTLE_S = 60
NAMES = ("a", "b", "c")


class Crypto:
    """Opens blobs that say whose they are and under which root version, as long as it has that."""

    def __init__(self) -> None:
        self.versions = [1]

    def root_status(self) -> Any:
        return SimpleNamespace(versions=[SimpleNamespace(version=version) for version in self.versions])

    def rotate_root(self, newest: int) -> int:
        self.versions.append(newest + 1)
        return newest + 1

    def retire_root(self, version: int) -> None:
        self.versions = [known for known in self.versions if known != version]

    def rewrap(self, blobs: Sequence[tuple[Key, Version]]) -> list[Rewrapped]:
        return [self._rewrapped(key, version) for key, version in blobs]

    def _rewrapped(self, key: Key, version: Version) -> Rewrapped:
        if not any(version.wrapped == blob(key.name.id, known) for known in self.versions):
            return Rewrapped(b"", reason=Reason.KEY_MATERIAL_REFUSED, message="damaged")
        return Rewrapped(blob(key.name.id, self.versions[-1]), self.versions[-1])


class AuditKeys:
    """Those of audit, of which none is left behind."""

    refused: Reason | None = None

    def count_below(self, _version: int) -> int:
        return 0

    def rewrap_below(self, _version: int, _limit: int) -> int:
        if self.refused is not None:
            raise StrongroomError(self.refused, "a key is missing from the audit database")
        return 0


class Rotating:
    """A rotation in a keystore with three keys."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.crypto, self.audit, self.clock = Crypto(), AuditKeys(), StillClock(NOW_US)
        self.root_key = RootKey(
            engine,
            cast(Any, self.crypto),
            cast(Any, self.audit),
            DestroyedHere(),
            cast(Any, Everybody()),
            Outbox(engine, cast(Any, None)),
            "a",
            float(SETTLE_S),
            self.clock,
        )
        with transaction(engine) as connection:
            for name in NAMES:
                add_key(connection, name)

    def begin(self) -> None:
        call = Call(
            "strongroom.keystore.v1.KeyService", "RotateRootKey", "", principal=Principal("accounts/a/users/u", "a")
        )
        self.root_key.rotate(call)

    def run(self, passes: int = 3) -> root_store.Rotation:
        """The rotation after it had all the time that it could want."""
        for _ in range(passes):
            self.clock.us += 2 * SETTLE_S * 1_000_000
            if self.root_key.is_rotating():
                try:
                    self.root_key.work(5)
                except StrongroomError:
                    break
        with reading(self.engine) as connection:
            found = root_store.rotation(connection)
        assert found is not None
        return found

    def tamper(self, statement: str) -> None:
        plain = create_engine(self.engine.url)
        with plain.connect() as connection:
            connection.execute(text("PRAGMA foreign_keys=OFF"))
            connection.execute(text(statement))
            connection.commit()
        plain.dispose()


def blob(name: str, version: int) -> bytes:
    return f"{name} under {version}".encode()


def add_key(connection: Any, name: str) -> None:
    level, origin = k.PROTECTION_LEVEL_SOFTWARE, k.KEY_ORIGIN_STRONGROOM
    spec, usage, uid, now = k.KEY_SPEC_AES_256, k.KEY_USAGE_ENCRYPT_DECRYPT, os.urandom(16), NOW_US
    named = ResourceName("a", "keys", name)
    key = Key(named, uid, spec, usage, level, origin, k.KEY_STATE_ENABLED, "", {}, False, 1, 1, now, now, now)
    store.insert_key(connection, key)
    state, made = k.KEY_VERSION_STATE_ENABLED, k.KEY_VERSION_ORIGIN_MANUAL
    store.insert_version(connection, Version(uid, 1, state, made, blob(name, 1), b"", 1, now))


@pytest.fixture
def rotating(engine: Engine) -> Rotating:
    return Rotating(engine)


def test_everything_moves_and_the_old_version_goes(rotating: Rotating) -> None:
    rotating.begin()
    done = rotating.run()
    assert (done.state, done.done_count, done.failed_count) == (pb.ROOT_KEY_ROTATION_STATE_DONE, 3, 0)
    assert rotating.crypto.versions == [2]


@pytest.mark.parametrize(
    "column", ["root_version = 1000000", "root_version = 0", "root_version = 2", "root_version = -1"]
)
def test_what_the_database_says_of_root_versions_decides_nothing(rotating: Rotating, column: str) -> None:
    rotating.tamper(f"UPDATE key_versions SET {column}")  # noqa: S608  # the test's own words
    rotating.begin()
    done = rotating.run()
    if done.state == pb.ROOT_KEY_ROTATION_STATE_DONE:
        with reading(rotating.engine) as connection:
            rows = connection.execute(text("SELECT wrapped, root_version FROM key_versions ORDER BY wrapped")).all()
        assert [tuple(row) for row in rows] == [(blob(name, 2), 2) for name in NAMES]
    else:
        assert rotating.crypto.versions == [1, 2]
        assert (done.state, done.error_reason) == (pb.ROOT_KEY_ROTATION_STATE_STALLED, Reason.KEY_MATERIAL_REFUSED)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE key_versions SET wrapped = 'another' WHERE rowid = 2",
        "UPDATE key_versions SET wrapped = 'another', root_version = 2",
        "UPDATE key_versions SET wrapped = NULL, root_version = 0 WHERE rowid = 2",
        "UPDATE key_versions SET wrapped = x'', root_version = 0",
        "UPDATE key_versions SET state = 6 WHERE rowid = 2",
        "DELETE FROM key_versions WHERE rowid = 2",
        "DELETE FROM key_versions",
        "DELETE FROM keys WHERE key_id = 'b'",
    ],
)
@pytest.mark.parametrize("passed", [False, True])
def test_no_old_version_is_destroyed_while_something_there_should_be_is_not_under_a_newer_one(
    rotating: Rotating, statement: str, passed: bool
) -> None:
    rotating.begin()
    if passed:
        # Everything moved already: what counts is how it is before the old version goes.
        rotating.root_key.work(5)
    rotating.tamper(statement)
    stalled = rotating.run()
    assert rotating.crypto.versions == [1, 2]
    assert (stalled.state, stalled.error_reason) == (pb.ROOT_KEY_ROTATION_STATE_STALLED, Reason.KEY_MATERIAL_REFUSED)
    assert stalled.error_detail


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE root_rotation SET cursor_uid = x'ffffffffffffffffffffffffffffffff'",
        "UPDATE root_rotation SET cursor_version = 7, failed_count = 0",
        "UPDATE root_rotation SET pass_us = 9000000000000000",
        "UPDATE root_rotation SET target_version = 3",
        "UPDATE root_rotation SET progressed_us = 1",
        "UPDATE root_rotation SET state = 2",
        "UPDATE root_rotation SET seal = NULL",
    ],
)
def test_nothing_is_done_by_a_rotation_that_somebody_else_wrote(rotating: Rotating, statement: str) -> None:
    rotating.begin()
    rotating.tamper(statement)
    told = rotating.run()
    assert rotating.crypto.versions == [1, 2]
    assert (told.state, told.error_reason) == (pb.ROOT_KEY_ROTATION_STATE_STALLED, Reason.KEY_MATERIAL_REFUSED)
    # Whoever may begins one anew.
    rotating.begin()
    assert rotating.run().state == pb.ROOT_KEY_ROTATION_STATE_DONE
    assert rotating.crypto.versions == [3]


def test_a_version_that_was_taken_out_of_the_list_is_destroyed_all_the_same(rotating: Rotating) -> None:
    rotating.begin()
    rotating.tamper("DELETE FROM root_versions")
    assert rotating.run().state == pb.ROOT_KEY_ROTATION_STATE_DONE
    assert rotating.crypto.versions == [2]


@pytest.mark.parametrize("reason", [Reason.KEY_MATERIAL_REFUSED, Reason.AUDIT_RECORD_REFUSED])
def test_it_stalls_by_what_audit_says_of_its_own_keys_and_goes_on_when_asked(
    rotating: Rotating, reason: Reason
) -> None:
    rotating.audit.refused = reason
    rotating.begin()
    stalled = rotating.run()
    assert (stalled.state, stalled.error_reason) == (pb.ROOT_KEY_ROTATION_STATE_STALLED, reason)
    assert rotating.crypto.versions == [1, 2]
    rotating.audit.refused = None
    rotating.begin()
    assert rotating.run().state == pb.ROOT_KEY_ROTATION_STATE_DONE
