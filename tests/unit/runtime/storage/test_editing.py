"""How what is stored is changed: permission before existence, one transaction, and nothing where nothing changes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Connection, Engine, text

from services.runtime.access.authorization import Resource
from services.runtime.call import Call
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.database import open_database, transaction
from services.runtime.storage.editing import UNCHANGED, Edits, Unchanged, permitted, require_current
from strongroom.audit.v1.event_pb2 import Event
from tests.support.clocks import StillClock

CALL = Call("s", "m", "a")
NOW_US = 5_000
ABSENT = Resource("Thing", "there", "a")


@dataclass(frozen=True)
class Thing:
    number: int

    @property
    def resource(self) -> Resource:
        return ABSENT


class Box:
    """One stored number, and the calls whose events were stored with its changes."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.recorded: list[Call] = []
        self.edits = Edits(engine, cast(Any, self), StillClock(NOW_US))
        with transaction(engine) as connection:
            connection.execute(text("CREATE TABLE t (n INTEGER)"))
            connection.execute(text("INSERT INTO t VALUES (1)"))

    def put(self, _connection: Connection, call: Call) -> None:
        self.recorded.append(call)

    def read(self, connection: Connection) -> Thing:
        return Thing(connection.execute(text("SELECT n FROM t")).scalar_one())

    def write(self, connection: Connection, _present: Thing, wanted: Thing, now_us: int) -> Thing:
        connection.execute(text("UPDATE t SET n = :n"), {"n": wanted.number + now_us})
        return self.read(connection)

    def number(self) -> int:
        with transaction(self.engine) as connection:
            return self.read(connection).number


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    engine = open_database(Database(url=f"sqlite:///{tmp_path}/some.db"))
    yield Box(engine)
    engine.dispose()


def test_a_change_is_written_and_its_event_with_it(box: Box) -> None:
    def change(_connection: Connection, present: Thing, now_us: int) -> Thing:
        assert now_us == NOW_US
        return replace(present, number=7)

    assert box.edits.edit(CALL, box.read, change, box.write) == Thing(5_007)
    assert box.number() == 5_007
    assert box.recorded == [CALL]


def test_what_is_unchanged_is_neither_written_nor_recorded(box: Box) -> None:
    def change(_connection: Connection, _present: Thing, _now_us: int) -> Thing | Unchanged:
        return UNCHANGED

    assert box.edits.edit(CALL, box.read, change, box.write) == Thing(1)
    assert box.number() == 1
    assert box.recorded == []


def test_the_thing_itself_is_a_change_like_any_other(box: Box) -> None:
    """A change of what belongs to it, such as a version, has a number and an event."""
    assert box.edits.edit(CALL, box.read, lambda _connection, present, _now: present, box.write) == Thing(5_001)
    assert box.recorded == [CALL]


def test_a_change_that_is_refused_leaves_nothing(box: Box) -> None:
    def change(connection: Connection, present: Thing, now_us: int) -> Thing:
        box.write(connection, present, present, now_us)
        raise StrongroomError(Reason.LIMIT_EXCEEDED, "no")

    with pytest.raises(StrongroomError):
        box.edits.edit(CALL, box.read, change, box.write)
    assert box.number() == 1
    assert box.recorded == []


def test_who_may_not_is_told_the_same_of_what_is_there_and_of_what_is_not() -> None:
    asked: list[Resource] = []

    def refuse(resource: Resource) -> Event:
        asked.append(resource)
        raise StrongroomError(Reason.PERMISSION_DENIED, "no")

    for found in (Thing(1), None):
        with pytest.raises(StrongroomError) as refused:
            permitted(found, ABSENT, refuse, lambda: pytest.fail("told that there is none"))
        assert refused.value.reason is Reason.PERMISSION_DENIED
    assert asked == [ABSENT, ABSENT]


def test_who_may_is_told_that_there_is_none() -> None:
    def missing() -> StrongroomError:
        return StrongroomError(Reason.KEY_NOT_FOUND, "none")

    assert permitted(Thing(1), ABSENT, lambda _: Event(id="e"), missing) == (Event(id="e"), Thing(1))
    with pytest.raises(StrongroomError) as refused:
        permitted(None, ABSENT, lambda _: Event(), missing)
    assert refused.value.reason is Reason.KEY_NOT_FOUND


def test_an_etag_is_compared_in_one_place() -> None:
    require_current("it", 3, "")
    require_current("it", 3, "3")
    with pytest.raises(StrongroomError, match="it has changed") as refused:
        require_current("it", 3, "2", "key.etag")
    assert (refused.value.reason, refused.value.field) == (Reason.ETAG_MISMATCH, "key.etag")
    services = Path(__file__).parents[4] / "services"
    raising = {
        str(path.relative_to(services))
        for path in services.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise) and "ETAG_MISMATCH" in ast.unparse(node)
    }
    assert raising == {"runtime/storage/editing.py"}
