"""The secrets' database in the hands of somebody else: what decides over a secret is refused unless the service wrote
it, an older row of a version is none, and permission comes before refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Table, and_, delete, select, text, update

from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.sensitive import SensitiveBytes
from services.runtime.storage import database, migrations
from services.runtime.storage import outbox as outboxes
from services.runtime.storage.outbox import Outbox
from services.runtime.storage.record_keys import OUTBOX_IS_SEALED, RecordSealing
from services.runtime.storage.request_ids import Repeatable
from services.runtime.storage.row_seals import UNSEALED, RowSeals
from services.runtime.work.schedule import Claim
from services.secrets.core import changes, store
from services.secrets.core.editing import REQUEST_IDS
from services.secrets.core.pairs import NONE, new_pairs, require_permitted
from services.secrets.core.tables import attempts, outbox, requests, revision, rotations, secrets, stages, versions
from services.secrets.core.tables import changes as changes_table
from services.secrets.life import resume_tokens
from services.secrets.values.sealing import NewValue
from services.secrets.values.vault import Reading
from services.secrets.work.due import rotation_item
from services.secrets.work.first_seals import seal_all
from strongroom.audit.v1.event_pb2 import Event
from strongroom.secrets.v1.secret_pb2 import (
    SECRET_TYPE_GENERIC,
    SECRET_VERSION_STATE_DISABLED,
    SECRET_VERSION_STATE_ENABLED,
    VALUE_FORMAT_TEXT,
)
from strongroom.secrets.v1.target_pb2 import DatabaseTarget, RotationTarget
from tests.support.rotation.lab import ACCOUNT, KEY, Lab, Place, person

NAME = ResourceName(ACCOUNT, "secrets", "s")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab.new(Place(f"sqlite:///{tmp_path}/secrets.db", 1, "none"))
    made.create("s", SECRET_TYPE_GENERIC, b"first")
    put(made, b"second")
    made.rotations._hasten = lambda _: None
    yield made
    made.close()


def put(lab: Lab, value: bytes) -> None:
    lab.vault.put(person("PutSecretValue"), NAME, NewValue(SensitiveBytes(value), VALUE_FORMAT_TEXT), ["Current"])


def reason(work: Callable[[], object]) -> Reason:
    with pytest.raises(StrongroomError) as refused:
        work()
    return refused.value.reason


def behind_its_back(lab: Lab, change: Callable[[Connection], object]) -> None:
    with database.transaction(lab.engine) as connection:
        connection.execute(text("PRAGMA defer_foreign_keys=ON"))
        change(connection)


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, str):
        return value + "x" if value else "{}"
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:] if value else b"\n\x00"
    return 1 if value is None else value + 1


def of(table: Table) -> list[str]:
    keys = {column.name for column in table.primary_key.columns}
    return [column.name for column in table.c if column.name not in keys and UNSEALED not in column.info]


def each_column_changed(lab: Lab, table: Table, uses: Sequence[Callable[[], object]]) -> None:
    """Every use is refused while a column of the newest row is another, and none when it is as it was."""
    newest = select(table).order_by(*(column.desc() for column in table.primary_key.columns)).limit(1)
    with database.reading(lab.engine) as connection:
        row = connection.execute(newest).mappings().one()
    this = and_(*(column == row[column.name] for column in table.primary_key.columns))
    for column in of(table):
        changed = update(table).where(this).values({column: other(row[column])})
        behind_its_back(lab, lambda connection, change=changed: connection.execute(change))  # type: ignore[misc]
        for use in uses:
            assert reason(use) is Reason.SECRET_RECORD_REFUSED, column
        restored = update(table).where(this).values({column: row[column]})
        behind_its_back(lab, lambda connection, change=restored: connection.execute(change))  # type: ignore[misc]
    uses[-1]()


def test_a_secret_whose_row_was_changed_is_refused_in_every_use(lab: Lab) -> None:
    each_column_changed(
        lab,
        secrets,
        [
            lambda: put(lab, b"third"),
            lambda: lab.rotate("s"),
            lambda: lab.catalog.get(person("GetSecret"), NAME),
            lambda: lab.catalog.secrets_page(person("ListSecrets"), ACCOUNT, "", 10, []),
            lambda: lab.work.work(NAME, 1 << 40),
            lambda: lab.lifecycle.delete(person("DeleteSecret"), NAME, 0, ""),
            lambda: lab.value("s"),
        ],
    )


def test_a_master_stays_one_whatever_others_rows_say(lab: Lab) -> None:
    """Whether its versions may come to a stage unread is not for rows to say that nobody has verified."""
    with database.transaction(lab.engine) as connection:
        given = store.secret(connection, NAME)
        assert given is not None
        target = RotationTarget(database=DatabaseTarget(username="app", master_secret=str(NAME)))
        user = replace(given, name=ResourceName(ACCOUNT, "secrets", "user"), target=target)
        read = {pair: given.stages["Current"] if pair.credential == NAME else 0 for pair in new_pairs(None, user)}
        # No row of the user's is there: somebody took its master's name from it.
        require_permitted(connection, None, user, read)
    with database.transaction(lab.engine) as connection:
        before = store.secret(connection, NAME)
        assert before is not None
        assert before.lent
        moved = replace(before, stages={"Current": before.stages["Current"] + 1})
        with pytest.raises(StrongroomError):
            require_permitted(connection, before, moved, NONE)


def test_a_version_whose_row_was_changed_is_refused(lab: Lab) -> None:
    listing = person("ListSecretVersions")
    pages = lambda: lab.catalog.versions_page(listing, NAME, 9, 9, [])  # noqa: E731
    each_column_changed(lab, versions, [lambda: lab.value("s"), pages])


def test_a_rotation_whose_row_was_changed_is_refused(lab: Lab) -> None:
    lab.rotate("s")
    each_column_changed(
        lab,
        rotations,
        [
            lambda: lab.work.work(NAME, 1 << 40),
            lambda: lab.rotations.resume(person("ResumeRotation"), NAME),
            lambda: lab.rotations.page(person("ListRotations"), NAME, 9, 9, []),
        ],
    )


def test_a_changed_value_is_refused_by_its_data_key(lab: Lab) -> None:
    behind_its_back(lab, lambda connection: connection.execute(update(versions).values(sealed=b"\x01" + bytes(40))))
    assert reason(lambda: lab.value("s")) is Reason.SECRET_VALUE_REFUSED
    behind_its_back(lab, lambda connection: connection.execute(update(versions).values(sealed=None)))
    assert reason(lambda: lab.value("s")) is Reason.SECRET_VALUE_REFUSED


@pytest.mark.parametrize(
    "change",
    [
        update(stages).values(version=1),
        update(stages).where(stages.c.stage == "Current").values(stage="Mine"),
        delete(stages),
        delete(versions).where(versions.c.version == 2),
        update(versions).where(versions.c.version == 2).values(version=9),
    ],
)
def test_stages_and_versions_that_were_moved_or_taken_away_are_refused(lab: Lab, change: Any) -> None:
    with lab.engine.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.execute(change)
        connection.commit()
    assert reason(lambda: lab.value("s")) is Reason.SECRET_RECORD_REFUSED


def test_an_older_row_of_a_version_put_back_is_refused(lab: Lab) -> None:
    """Its seal is good: the secret knows that it has changed since."""

    def row(connection: Connection) -> dict[str, Any]:
        return dict(connection.execute(select(versions).where(versions.c.version == 1)).mappings().one())

    def replay(old: dict[str, Any]) -> None:
        behind_its_back(lab, lambda c: c.execute(update(versions).where(versions.c.version == 1).values(old)))

    read = Reading(replace(NAME, version=1), "", "")
    with database.reading(lab.engine) as connection:
        enabled = row(connection)
    lab.lifecycle.disable_version(person("DisableSecretVersion"), read.name, "")
    with database.reading(lab.engine) as connection:
        disabled = row(connection)
    replay(enabled)
    assert reason(lambda: lab.vault.open(person("GetSecretValue"), read)) is Reason.SECRET_RECORD_REFUSED
    replay(disabled)
    assert reason(lambda: lab.vault.open(person("GetSecretValue"), read)) is Reason.SECRET_VERSION_DISABLED
    lab.lifecycle.force_delete(person("ForceDeleteSecret"), NAME, "")
    for old in (enabled, disabled):
        replay(old)
        assert reason(lambda: lab.access.of_version(person("RotateSecret"), lab.secret("s"), 1)) is (
            Reason.SECRET_RECORD_REFUSED
        )


def test_a_rotation_that_is_refused_when_it_falls_due_is_an_event(lab: Lab) -> None:
    behind_its_back(lab, lambda connection: connection.execute(update(secrets).values(target=b"\x12\x00")))
    claim = Claim(rotation_item(NAME), 1)
    for _ in range(3):
        assert reason(lambda: lab.due.handle(claim)) is Reason.SECRET_RECORD_REFUSED
    told = [event for event in lab.events() if event.reason == "SECRET_RECORD_REFUSED"]
    assert [(event.principal, event.resource) for event in told] == [("services/secrets", str(NAME))]


def test_a_rotation_that_was_taken_away_is_missed(lab: Lab) -> None:
    lab.rotate("s")
    behind_its_back(lab, lambda connection: connection.execute(delete(rotations)))
    assert reason(lambda: lab.work.work(NAME, 1 << 60)) is Reason.SECRET_RECORD_REFUSED


def test_an_attempt_a_request_and_a_change_that_were_changed_are_not_believed(lab: Lab) -> None:
    lab.rotate("s")
    lab.work.work(NAME, 1 << 40)
    behind_its_back(lab, lambda connection: connection.execute(update(attempts).values(error_detail="elsewhere")))
    assert reason(lambda: lab.attempts("s")) is Reason.SECRET_RECORD_REFUSED
    behind_its_back(lab, lambda connection: connection.execute(update(changes_table).values(secret_id="other")))
    put_back = update(changes_table).where(changes_table.c.revision == 1).values(secret_id="s")
    behind_its_back(lab, lambda connection: connection.execute(put_back))
    with database.reading(lab.engine) as connection:
        # Watchers hear of the one that is as it was, and of no other.
        assert [change.revision for change in changes.since(connection, 0, 10)] == [1]
    with database.transaction(lab.engine) as connection:
        asked = Repeatable("r", bytes(32))
        REQUEST_IDS.remember(connection, ACCOUNT, asked, str(NAME), 5)
        connection.execute(update(requests).values(resource=f"{NAME}/versions/1"))
        look_up = partial(REQUEST_IDS.made_before, connection, ACCOUNT, asked, 5)
        assert reason(look_up) is Reason.SECRET_RECORD_REFUSED


def test_a_counter_of_changes_that_was_put_back_gives_no_number_twice(lab: Lab) -> None:
    behind_its_back(lab, lambda connection: connection.execute(update(revision).values(revision=0)))
    put(lab, b"third")
    assert lab.value("s") == b"third"


def test_a_resume_token_tells_nothing_of_a_change_to_who_guesses_it(lab: Lab) -> None:
    with database.reading(lab.engine) as connection:
        last = connection.execute(select(changes_table).order_by(changes_table.c.revision.desc()).limit(1)).one()
        place = resume_tokens.Place.of(last.revision, changes.mark(connection, last.revision))
    guessed = (last.account, last.secret_id, last.kind, last.version, last.changed_us)
    assert place.digest not in (b"", sha256(repr(guessed).encode()).digest()[:8])
    assert place == resume_tokens.Place.of(last.revision, last.seal)


def test_who_may_not_use_a_secret_does_not_hear_that_its_record_is_refused(lab: Lab) -> None:
    behind_its_back(lab, lambda connection: connection.execute(update(secrets).values(type=2)))

    def denies(*_: Any, **__: Any) -> None:
        raise StrongroomError(Reason.PERMISSION_DENIED, "no")

    lab.vault._editor._authorizer.authorize = denies  # type: ignore[method-assign,assignment]
    for use in (lambda: lab.value("s"), lambda: put(lab, b"third"), lambda: lab.rotate("s")):
        assert reason(use) is Reason.PERMISSION_DENIED


# --- the key that rows are sealed with


class Kept:
    """Where the key of records is kept."""

    def __init__(self, key: bytes | None = None) -> None:
        self.key = key
        self.marks: set[bytes] = set()

    def get(self) -> SensitiveBytes | None:
        return SensitiveBytes(self.key) if self.key else None

    def install(self, key: SensitiveBytes) -> SensitiveBytes:
        self.key = self.key or key.reveal()
        return SensitiveBytes(self.key)

    def is_marked(self, mark: bytes) -> bool:
        return mark in self.marks

    def mark(self, mark: bytes) -> None:
        self.marks.add(mark)


def started(lab: Lab, kept: Kept) -> None:
    """The lab's seals as the service has them once it was started."""
    seals = RowSeals(Reason.SECRET_RECORD_REFUSED)
    RecordSealing(lab.engine, kept, seals, [seal_all], {OUTBOX_IS_SEALED: outboxes.seal_all}).open()
    lab.engine.update_execution_options(row_seals=seals)


def strip(lab: Lab) -> None:
    """As a database was before there were seals."""

    def change(connection: Connection) -> None:
        connection.execute(update(secrets).values(seal=None, standing="{}"))
        for table in (versions, rotations, attempts):
            connection.execute(update(table).values(seal=None))

    behind_its_back(lab, change)


def test_rows_from_before_there_were_seals_are_sealed_once(lab: Lab) -> None:
    lab.rotate("s")
    lab.lifecycle.disable_version(person("DisableSecretVersion"), replace(NAME, version=1), "")
    strip(lab)
    kept = Kept()
    started(lab, kept)
    assert lab.value("s") == b"second"
    assert lab.rotation("s").number == 1
    assert store_states(lab) == [SECRET_VERSION_STATE_ENABLED, SECRET_VERSION_STATE_DISABLED]
    put_error = reason(lambda: put(lab, b"x"))
    assert put_error is Reason.ROTATION_ACTIVE

    # Whoever takes the seals away later does not have their rows taken for older ones.
    strip(lab)
    started(lab, kept)
    assert reason(lambda: lab.value("s")) is Reason.SECRET_RECORD_REFUSED


def store_states(lab: Lab) -> list[int]:
    with database.reading(lab.engine) as connection:
        secret = store.secret(connection, NAME)
        assert secret is not None
        return [version.state for version in store.versions_page(connection, secret, 9, 9, [])]


def test_events_from_before_the_outbox_was_sealed_go_out_once(lab: Lab) -> None:
    """The rest of the database has had seals for long."""

    def strip_outbox(connection: Connection) -> None:
        connection.execute(update(outbox).values(seal=None, created_us=0))

    kept = Kept(KEY)
    put(lab, b"third")
    behind_its_back(lab, strip_outbox)
    started(lab, kept)
    sent: list[Event] = []
    relay = Outbox(lab.engine, Takes(sent), "services/secrets")
    relay.sweep()
    assert sent
    assert "audit:SetEventAside" not in {event.action for event in sent}
    assert lab.events() == []

    # From then on nobody's are taken for older ones.
    put(lab, b"fourth")
    behind_its_back(lab, strip_outbox)
    started(lab, kept)
    sent.clear()
    relay.sweep()
    assert {event.action for event in sent} == {"audit:SetEventAside"}


class Takes:
    """An audit log that takes everything."""

    def __init__(self, sent: list[Event]) -> None:
        self._sent = sent

    def append(self, events: Sequence[Event], traceparent: str = "", payer: str = "") -> None:
        del traceparent, payer
        self._sent += events


def test_the_first_of_two_replicas_to_keep_a_key_is_followed(lab: Lab) -> None:
    class Late(Kept):
        """Another replica was quicker between the two questions."""

        def get(self) -> SensitiveBytes | None:
            return None

    strip(lab)
    started(lab, Late(b"k" * 32))
    started(lab, Kept(b"k" * 32))
    assert lab.value("s") == b"second"


def test_a_migrated_database_without_secrets_needs_nothing(tmp_path: Path) -> None:
    engine = database.open_database(Database(url=f"sqlite:///{tmp_path}/empty.db"))
    migrations.migrate(engine, "secrets")
    kept, seals = Kept(), RowSeals(Reason.SECRET_RECORD_REFUSED)
    RecordSealing(engine, kept, seals, [seal_all]).open()
    seals.check()
    assert kept.key is not None
