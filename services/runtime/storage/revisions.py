"""The number of a database's last change, and the changes by their numbers: what caches are told of.

Whoever writes to the database can take changes away, alter them and put the number back. Each change is sealed with
its number, so one that is missing or is not as it was written leaves a gap, at which whoever follows starts over. An
older number has nothing wrong with it, but a process remembers how far it has come: once it finds the number below
that, it leaves numbers out, and everybody starts over. A number that no changes can have led to is not believed at all:
it is put back to where the changes are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, Table, case, func, insert, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from services.runtime.changes import Change, Changes, answer
from services.runtime.storage import row_seals
from services.runtime.storage.database import after_commit, reading, transaction
from services.runtime.storage.row_seals import SEAL

log = logging.getLogger(__name__)

_FURTHEST = 1 << 40
"""So far beyond what is known of it a number is believed: more changes than are ever made, and so much less than fits
that nobody who writes to the database uses the numbers up."""
_HIGHEST = 1 << 62
_LOOKED_THROUGH = 1_000


class Revisions:
    """The tables of one database: `revision`, whose one row has the number, and `changes`."""

    def __init__(self, revision: Table, changes: Table, left_out: int) -> None:
        """`left_out` is how many numbers are left out so that everybody starts over: more than are kept, or made
        between two looks at them."""
        self._revision = revision
        self._changes = changes
        self._left_out = left_out
        self._step, self._add = _step(revision, changes), insert(changes)

    def current(self, connection: Connection) -> int:
        """The number of the last change."""
        return int(connection.execute(select(self._revision.c.revision)).scalar_one())

    def note(self, connection: Connection, change: Mapping[str, Any]) -> int:
        """Adds a change, and gives it its number. From here to the commit no other can be made, so all see them in
        order."""
        return self.note_all(connection, [change])[0]

    def note_all(self, connection: Connection, changes: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        """Adds changes, and gives them the next numbers: hundreds in the time of a few."""
        seals, first = row_seals.of(connection), self._next(connection)
        numbers = range(first, first + len(changes))
        if len(numbers) > 1:
            connection.execute(update(self._revision).values(revision=numbers[-1]))
            after_commit(connection, partial(seals.counter.saw, numbers[-1]))
        rows = [{**change, "revision": number} for change, number in zip(changes, numbers, strict=True)]
        connection.execute(self._add, [{**row, SEAL: seals.seal(self._changes, row)} for row in rows])
        return numbers

    def start_over(self, connection: Connection) -> None:
        """Has everybody who follows start over: leaves numbers out."""
        number = self._next(connection) + self._left_out
        connection.execute(update(self._revision).values(revision=number))
        after_commit(connection, partial(row_seals.of(connection).counter.saw, number))

    def since(self, connection: Connection, seen: int, limit: int) -> Sequence[RowMapping]:
        """Rows of changes after `seen`, oldest first, without those that this service did not write."""
        changes, seals = self._changes, row_seals.of(connection)
        ordered = select(changes).where(changes.c.revision > seen).order_by(changes.c.revision).limit(limit)
        return [row for row in connection.execute(ordered).mappings() if seals.is_good(changes, row)]

    def listed(self, engine: Engine, seen: int, read: Callable[[Connection], Sequence[Change]]) -> Changes:
        """What is told whoever has seen `seen`; `read` finds what changed after that."""
        counter = row_seals.of(engine).counter
        # Before the view of the database begins: what is committed meanwhile it does not show.
        known = counter.highest
        with reading(engine) as connection:
            now = self.current(connection)
            credible = self._credible(connection, now)
            told = answer(seen, credible, partial(read, connection))
        if now == credible >= known:
            counter.saw(now)
            return told
        log.warning(
            "the number of the last change went back, or further on than changes can have led: the database is an"
            " older one, or somebody else wrote to it; everybody who follows its changes starts over",
            extra={"fields": {"revision": str(now), "known": str(known)}},
        )
        with transaction(engine) as connection:
            self.start_over(connection)
        return Changes(credible, start_over=True)

    def _credible(self, connection: Connection, number: int) -> int:
        """A number of the last change, or where the changes are if it is none that they can have led to."""
        known = row_seals.of(connection).counter.highest
        if number <= known + _FURTHEST:
            return number
        newest = max(known, self._newest_sealed(connection))
        return number if number <= newest + _FURTHEST else newest

    def _newest_sealed(self, connection: Connection) -> int:
        """The number of the newest change that this service wrote, or where there is none among many, of the newest
        whose number is no wonder."""
        changes, seals = self._changes, row_seals.of(connection)
        newest = select(changes).order_by(changes.c.revision.desc()).limit(_LOOKED_THROUGH)
        for row in connection.execute(newest).mappings():
            if seals.is_good(changes, row):
                return int(row["revision"])
        likely = select(func.max(changes.c.revision)).where(changes.c.revision <= _FURTHEST)
        return int(connection.execute(likely).scalar_one() or 0)

    def _next(self, connection: Connection) -> int:
        number: int = connection.execute(self._step).scalar_one()
        counter = row_seals.of(connection).counter
        credible = self._credible(connection, number)
        if number <= counter.highest or number != credible:
            number = max(counter.highest, min(number, credible)) + self._left_out
            connection.execute(update(self._revision).values(revision=number))
        after_commit(connection, partial(counter.saw, number))
        return number


def _step(revision: Table, changes: Table) -> ReturningUpdate[int]:
    """Takes the next number."""
    number = revision.c.revision
    # A number that was put back is not given twice.
    newest = select(func.coalesce(func.max(changes.c.revision), 0)).scalar_subquery()
    # One more than the highest would not fit, whoever wrote that.
    last = case((number > _HIGHEST, _HIGHEST), (newest > _HIGHEST, _HIGHEST), (number >= newest, number), else_=newest)
    return update(revision).values(revision=last + 1).returning(number)
