"""What replicas keep in memory for readers: right at once where a change was made, and soon everywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import event

from services.runtime import clock
from services.runtime.access.authorization import Authorizer
from services.runtime.audit_client import AuditClient
from services.runtime.changes import ChangeFeed
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.sensitive import SensitiveBytes
from services.runtime.storage import database, row_seals
from services.runtime.storage.outbox import Outbox
from services.secrets.core import changes, store
from services.secrets.core.editing import SecretEditor
from services.secrets.core.model import CURRENT, Secret
from services.secrets.life.lifecycle import Lifecycle, SecretUpdate
from services.secrets.rotation.targets.access import TargetAccess
from services.secrets.rotation.targets.targets import TargetRules
from services.secrets.values.readable import FRESH_SECONDS, Readable
from services.secrets.values.sealing import NewValue, Sealer
from services.secrets.values.vault import Reading, Vault
from strongroom.secrets.v1.secret_pb2 import SECRET_STATE_ENABLED, SECRET_TYPE_GENERIC, VALUE_FORMAT_TEXT
from tests.support import databases
from tests.support.rotation.lab import ACCOUNT, LocalDataKeys, NoAudit, Permits, lab_seals, person

NAME = ResourceName(ACCOUNT, "secrets", "payments")


class Replica:
    """A process of the service, as far as values are concerned, whose time stands still until a test moves it."""

    def __init__(self, url: str, **bounds: int) -> None:
        self.now = 0.0
        self.reads = 0
        opened = database.open_database(Database(url=url))
        event.listen(opened, "begin", self._count)
        seals = lab_seals()
        followed = changes.followed(row_seals.sealed(opened, seals))
        self.feed = ChangeFeed(followed, lambda: self.now, peer="database", stale_seconds=FRESH_SECONDS)
        self.engine = row_seals.sealed(changes.heard(opened, self.feed.tell), seals)
        permits = cast(Authorizer, Permits())
        outbox = Outbox(self.engine, cast(AuditClient, NoAudit()))
        editor = SecretEditor(self.engine, permits, outbox, clock.system_clock)
        sealer = Sealer(LocalDataKeys(), clock.system_clock)
        self.readable = Readable(self.engine, self.feed, **bounds)
        self.vault = Vault(self.engine, self.readable, sealer, editor, outbox, clock.system_clock)
        self.lifecycle = Lifecycle(editor, TargetAccess(self.engine, sealer, {}), TargetRules([]))
        self.feed.poll()

    def _count(self, _connection: object) -> None:
        self.reads += 1

    def create(self, secret_id: str) -> None:
        now_us = clock.system_clock.now_us()
        name = ResourceName(ACCOUNT, "secrets", secret_id)
        added = Secret(name, SECRET_TYPE_GENERIC, SECRET_STATE_ENABLED, "", "", {}, 10, 0, 1, now_us, now_us, stages={})
        with database.transaction(self.engine) as connection:
            store.insert_secret(connection, added)

    def put(self, value: bytes, name: ResourceName = NAME) -> None:
        self.vault.put(person("PutSecretValue"), name, NewValue(SensitiveBytes(value), VALUE_FORMAT_TEXT), [CURRENT])

    def read(self, name: ResourceName = NAME) -> bytes:
        return self.vault.open(person("GetSecretValue"), Reading(name, "", "")).value.reveal()

    def disable(self, version: int) -> None:
        self.lifecycle.disable_version(person("DisableSecretVersion"), numbered(version), "")

    def update(self, **fields: object) -> None:
        self.lifecycle.update(person("UpdateSecret"), SecretUpdate(NAME, fields))


def numbered(version: int) -> ResourceName:
    return ResourceName(ACCOUNT, "secrets", "payments", version)


def reason(work: Callable[[], object]) -> Reason:
    with pytest.raises(StrongroomError) as refused:
        work()
    return refused.value.reason


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/data/secrets.db"
    engine = database.open_database(Database(url=url))
    databases.migrate(engine, "secrets")
    engine.dispose()
    return url


@pytest.fixture
def make(url: str) -> Iterator[Callable[..., Replica]]:
    made: list[Replica] = []

    def make(**bounds: int) -> Replica:
        made.append(Replica(url, **bounds))
        return made[-1]

    yield make
    for replica in made:
        replica.engine.dispose()


@pytest.fixture
def here(make: Callable[..., Replica]) -> Replica:
    replica = make()
    replica.create("payments")
    replica.put(b"first")
    return replica


@pytest.fixture
def there(here: Replica, make: Callable[..., Replica]) -> Replica:
    """Another replica, which has read the value already."""
    replica = make()
    assert replica.read() == here.read()
    return replica


def test_a_value_that_was_read_is_read_again_without_the_database(here: Replica) -> None:
    assert here.read() == b"first"
    before = here.reads
    assert [here.read(), here.read(numbered(1))] == [b"first", b"first"]
    assert here.reads == before


def test_a_change_is_seen_at_once_where_it_was_made(here: Replica) -> None:
    here.read()
    here.put(b"second")
    assert here.read() == b"second"
    here.disable(2)
    assert reason(here.read) is Reason.SECRET_VERSION_DISABLED
    assert here.read(numbered(1)) == b"first"


def test_another_replica_sees_a_change_with_its_next_look(here: Replica, there: Replica) -> None:
    here.disable(1)
    there.feed.poll()
    assert reason(there.read) is Reason.SECRET_VERSION_DISABLED
    here.put(b"second")
    there.feed.poll()
    assert there.read() == b"second"


@pytest.mark.parametrize(
    "hide",
    [
        "UPDATE changes SET account = 'x' WHERE revision = NEW.revision",
        "UPDATE changes SET seal = NULL WHERE revision = NEW.revision",
        "DELETE FROM changes WHERE revision = NEW.revision",
        "DELETE FROM changes WHERE revision = NEW.revision; UPDATE revision SET revision = NEW.revision - 1",
    ],
)
def test_another_replica_sees_a_change_that_somebody_hides(here: Replica, there: Replica, hide: str) -> None:
    with database.transaction(here.engine) as connection:
        connection.exec_driver_sql(f"CREATE TRIGGER hide AFTER INSERT ON changes BEGIN {hide}; END")
    here.disable(1)
    # Every replica looks, and the one that made the change knows how far it had come.
    for replica in (here, there):
        replica.feed.poll()
    assert reason(there.read) is Reason.SECRET_VERSION_DISABLED


def test_another_replica_that_cannot_look_for_changes_asks_the_database_within_a_second(
    here: Replica, there: Replica
) -> None:
    here.disable(1)
    there.now += FRESH_SECONDS + 0.01
    assert reason(there.read) is Reason.SECRET_VERSION_DISABLED
    assert FRESH_SECONDS < 1


def test_values_destroyed_because_fewer_are_retained_are_not_read_any_more(here: Replica, there: Replica) -> None:
    here.put(b"second")
    here.put(b"third")
    there.feed.poll()
    assert there.read(numbered(1)) == b"first"
    here.update(retained_versions=2)
    there.feed.poll()
    assert reason(lambda: there.read(numbered(1))) is Reason.SECRET_VERSION_DESTROYED


def test_access_is_decided_by_the_tags_as_they_are(here: Replica, there: Replica) -> None:
    here.update(tags={"team": "blue"})
    there.feed.poll()
    for replica in (here, there):
        secret = replica.readable.secret(NAME, lambda _: 0)
        assert secret is not None
        assert secret.resource.tags == {"team": "blue"}


def test_what_readers_do_not_see_leaves_what_is_kept(here: Replica, there: Replica) -> None:
    here.update(description="of the shop")
    there.feed.poll()
    before = there.reads
    assert there.read() == b"first"
    assert there.reads == before


def test_a_secret_that_a_change_overtook_while_it_was_read_is_not_kept(make: Callable[..., Replica]) -> None:
    here = make()
    here.create("payments")

    def overtaken(secret: Secret) -> int:
        if not secret.stages:
            with ThreadPoolExecutor(1) as another:
                another.submit(here.put, b"first").result()
        return 0

    read = here.readable.secret(NAME, overtaken)
    assert read is not None
    assert read.stages == {}
    assert here.read() == b"first"


def test_without_the_database_reads_are_refused_once_changes_could_be_missed(here: Replica, tmp_path: Path) -> None:
    here.read()
    here.engine.dispose()
    (tmp_path / "data").rename(tmp_path / "away")
    assert reason(here.feed.poll) is Reason.DATABASE_UNAVAILABLE
    assert here.read() == b"first"
    here.now += FRESH_SECONDS + 0.01
    assert reason(here.read) is Reason.DATABASE_UNAVAILABLE
    (tmp_path / "away").rename(tmp_path / "data")
    assert here.read() == b"first"


def test_what_is_kept_is_bounded_in_secrets_and_bytes(make: Callable[..., Replica]) -> None:
    here = make(secrets=2, sealed_bytes=25_000)
    names = [ResourceName(ACCOUNT, "secrets", f"s{number}") for number in range(4)]
    for name in names:
        here.create(name.id)
        here.put(bytes(10_000), name)
        here.read(name)

    def reads_of(name: ResourceName) -> int:
        before = here.reads
        here.read(name)
        return here.reads - before

    assert [reads_of(name) for name in reversed(names)] == [0, 0, 1, 1]
