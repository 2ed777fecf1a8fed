"""The change log: every change in order while it is kept, and a clear word to who asks for more."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, func, select, update

from services.keystore.store import changes, tables
from services.runtime.changes import LATEST, Changes
from services.runtime.storage import row_seals
from services.runtime.storage.database import reading, transaction
from strongroom.keystore.v1.key_record_service_pb2 import CHANGE_KIND_KEY

KEPT = 20


@pytest.fixture
def log(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A log that keeps 20 changes, and lost some of the 47 that were made."""
    monkeypatch.setattr(changes, "KEPT", KEPT)
    monkeypatch.setattr(changes, "_PRUNE_EVERY", 5)
    for number in range(1, 48):
        with transaction(engine) as connection:
            assert changes.note(connection, CHANGE_KIND_KEY, f"key {number}") == number
    return engine


def since(log: Engine, seen: int) -> Changes:
    return changes.since(log, seen, 1000)


def test_no_more_changes_are_kept_than_are_asked_for(log: Engine) -> None:
    with reading(log) as connection:
        oldest, count = connection.execute(select(func.min(tables.changes.c.revision), func.count())).one()
    # Pruned at the 45th.
    assert (oldest, count) == (26, 22)


@pytest.mark.parametrize("seen", [25, 26, 46])
def test_changes_that_are_kept_are_told(log: Engine, seen: int) -> None:
    told = since(log, seen)
    assert [change.resource for change in told.changes] == [f"key {number}" for number in range(seen + 1, 48)]
    assert (told.revision, told.more, told.start_over) == (47, False, False)


@pytest.mark.parametrize("seen", [0, 1, 24])
def test_who_is_further_behind_starts_over(log: Engine, seen: int) -> None:
    assert since(log, seen) == Changes(47, start_over=True)


@pytest.mark.parametrize("seen", [26, 46, 47])
def test_everybody_starts_over_when_the_database_was_put_back(log: Engine, seen: int) -> None:
    with transaction(log) as connection:
        changes.start_over(connection)
        changes.note(connection, CHANGE_KIND_KEY, "another")
    found = since(log, seen)
    while found.more and not found.start_over:
        found = since(log, found.revision)
    assert found.start_over


@pytest.mark.parametrize("seen", [LATEST, 47, 99])
def test_the_current_revision_is_told_without_changes(log: Engine, seen: int) -> None:
    assert since(log, seen) == Changes(47)


HIDES = {
    "another's name": "UPDATE changes SET resource = 'accounts/x/keys/none', key_uid = zeroblob(16)",
    "another kind": "UPDATE changes SET kind = kind + 1",
    "no seal": "UPDATE changes SET seal = NULL",
    "a number for a seal": "UPDATE changes SET seal = 100000000000",
    "another's seal": "UPDATE changes SET seal = (SELECT seal FROM changes WHERE revision = NEW.revision - 1)",
    "gone": "DELETE FROM changes",
}


def hide(log: Engine, how: str, *, put_back: bool = False) -> None:
    """From now on whoever writes to the database hides every change as it is made."""
    back = "UPDATE revision SET revision = NEW.revision - 1;" if put_back else ""
    with transaction(log) as connection:
        connection.exec_driver_sql(
            f"CREATE TRIGGER hide AFTER INSERT ON changes BEGIN {HIDES[how]} WHERE revision = NEW.revision; {back} END"
        )


@pytest.mark.parametrize("put_back", [False, True])
@pytest.mark.parametrize("how", HIDES)
def test_a_change_that_somebody_hides_has_everybody_start_over(log: Engine, how: str, *, put_back: bool) -> None:
    hide(log, how, put_back=put_back)
    with transaction(log) as connection:
        changes.note(connection, CHANGE_KIND_KEY, "revoked")
    for follower in (46, 47):
        found = since(log, follower)
        while found.more and not found.start_over:
            found = since(log, found.revision)
        assert found.start_over


def test_a_number_that_was_put_back_is_not_given_twice(log: Engine) -> None:
    with transaction(log) as connection:
        connection.exec_driver_sql("DELETE FROM changes WHERE revision > 40")
        connection.exec_driver_sql("UPDATE revision SET revision = 40")
        assert changes.note(connection, CHANGE_KIND_KEY, "another") > 47 + KEPT
    assert since(log, 47).start_over


TOO_HIGH = (
    "UPDATE revision SET revision = 9223372036854775807",
    "UPDATE revision SET revision = 4611686018427387903",
    "INSERT INTO changes (revision, kind, resource, account, key_uid) VALUES (9223372036854775807, 1, 'x', '', '')",
)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("written", TOO_HIGH)
def test_a_number_that_is_too_high_does_not_outlive_its_repair(log: Engine, written: str, *, restarted: bool) -> None:
    if restarted:
        row_seals.of(log).counter = row_seals.Counter()
    with transaction(log) as connection:
        connection.exec_driver_sql(written)
    # Somebody polls, and somebody changes something, while it is there.
    told = [since(log, seen) for seen in (LATEST, 46, 47)]
    assert all(changes.revision < 1_000_000 for changes in told)
    with transaction(log) as connection:
        during = changes.note(connection, CHANGE_KIND_KEY, "during")
    assert since(log, 47).start_over
    # It is put right.
    with transaction(log) as connection:
        connection.exec_driver_sql("DELETE FROM changes WHERE revision = 9223372036854775807")
        connection.exec_driver_sql("UPDATE revision SET revision = 47")
    with transaction(log) as connection:
        after = changes.note(connection, CHANGE_KIND_KEY, "after")
    assert 47 < during < after < 1_000_000
    assert since(log, LATEST) == Changes(after)
    assert [change.resource for change in since(log, after - 1).changes] == ["after"]


def test_who_raises_the_number_again_and_again_does_not_use_numbers_up(log: Engine) -> None:
    for _ in range(5):
        with transaction(log) as connection:
            connection.exec_driver_sql("UPDATE revision SET revision = 4611686018427387903")
        with transaction(log) as connection:
            assert changes.note(connection, CHANGE_KIND_KEY, "another") < 1_000_000


def test_a_change_that_is_not_committed_is_not_remembered(log: Engine) -> None:
    with reading(log) as connection:
        assert changes.current(connection) == 47

    def undone() -> None:
        with transaction(log) as connection:
            changes.note(connection, CHANGE_KIND_KEY, "undone")
            raise KeyError

    with pytest.raises(KeyError):
        undone()
    assert since(log, 47) == Changes(47)


def test_changes_from_before_they_were_sealed_have_who_missed_them_start_over(log: Engine) -> None:
    with transaction(log) as connection:
        connection.execute(update(tables.changes).values(seal=None))
    assert since(log, 40).start_over
    assert since(log, 47) == Changes(47)
    with transaction(log) as connection:
        changes.note(connection, CHANGE_KIND_KEY, "new")
    assert [change.resource for change in since(log, 47).changes] == ["new"]
