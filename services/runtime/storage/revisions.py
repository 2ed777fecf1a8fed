"""The number of a database's last change, and the changes by their numbers: what caches are told of.

Whoever writes to the database can take changes away, alter them and put the number back. Each change is sealed with
its number, so one that is missing or is not as it was written leaves a gap, at which whoever follows starts over. An
older number has nothing wrong with it, but a process remembers how far it has come: once it finds the number below
that, it leaves numbers out, and everybody starts over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, Table, case, func, insert, select, update

from services.runtime.changes import Change, Changes, answer
from services.runtime.storage import row_seals
from services.runtime.storage.database import after_commit, reading, transaction
from services.runtime.storage.row_seals import SEAL

log = logging.getLogger(__name__)


class Revisions:
    """The tables of one database: `revision`, whose one row has the number, and `changes`."""

    def __init__(self, revision: Table, changes: Table, left_out: int) -> None:
        """`left_out` is how many numbers are left out so that everybody starts over: more than are kept, or made
        between two looks at them."""
        self._revision = revision
        self._changes = changes
        self._left_out = left_out

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
        connection.execute(insert(self._changes), [{**row, SEAL: seals.seal(self._changes, row)} for row in rows])
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
            told = answer(seen, now, partial(read, connection))
        if now >= known:
            counter.saw(now)
            return told
        log.warning(
            "the number of the last change went back: the database is an older one, or somebody else wrote to it;"
            " everybody who follows its changes starts over",
            extra={"fields": {"revision": str(now), "known": str(known)}},
        )
        with transaction(engine) as connection:
            self.start_over(connection)
        return Changes(now, start_over=True)

    def _next(self, connection: Connection) -> int:
        revision = self._revision.c.revision
        # A number that was put back is not given twice.
        newest = select(func.coalesce(func.max(self._changes.c.revision), 0)).scalar_subquery()
        last = case((revision >= newest, revision), else_=newest)
        number: int = connection.execute(
            update(self._revision).values(revision=last + 1).returning(revision)
        ).scalar_one()
        counter = row_seals.of(connection).counter
        if number <= counter.highest:
            number = counter.highest + self._left_out
            connection.execute(update(self._revision).values(revision=number))
        after_commit(connection, partial(counter.saw, number))
        return number
