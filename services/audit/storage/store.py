"""The log's leaves, tiles and head: SQL and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, select, update
from sqlalchemy.exc import DBAPIError

from services.audit.storage.tables import ON_TIME_US, heads, leaves
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.database import KeptConnection, reading, transaction
from strongroom.tlog.tiles import WIDTH
from strongroom.tlog.tree import Tile

_HEAD = 1
_LEAF_COLUMNS = "leaf_index, time_us, high_us, leaf"
_INSERT_SQLITE = "INSERT INTO leaves (leaf_index, event_id, time_us, high_us, tokens, leaf) VALUES (?, ?, ?, ?, ?, ?)"
# One statement with arrays in place of one a row.
_INSERT_POSTGRESQL = (
    "INSERT INTO leaves (leaf_index, event_id, time_us, high_us, tokens, leaf) SELECT * FROM "
    "unnest(%b::bigint[], %b::bytea[], %b::bigint[], %b::bigint[], %b::bytea[], %b::bytea[])"
)


_MOVE_HEAD = (
    "UPDATE heads SET size = ?, high_us = ?, last_hash = ?, beat_us = {now} "
    "WHERE head_id = ? AND size = ? AND last_hash = ? AND epoch = ?"
)
_BEAT = "UPDATE heads SET beat_us = {now} WHERE head_id = ? AND epoch = ?"
_BEAT_THERE = f"{_BEAT} AND size = ? AND last_hash = ?"
# Microseconds by the database's own clock, which is one for all that write to it.
_NOW_SQLITE = "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)"
_NOW_POSTGRESQL = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"
_PUT_TILES = (
    "INSERT INTO tiles (level, number, hashes) VALUES (?, ?, ?) "
    "ON CONFLICT (level, number) DO UPDATE SET hashes = excluded.hashes"
)


def driver_sql(engine: Engine, statement: str) -> str:
    """A statement with `?` for its values, as the engine's driver takes it.

    `{now}` stands for the database's time. For what every append and lookup does: there, what SQLAlchemy does to a
    statement costs more than all the rest.
    """
    sqlite = engine.dialect.name == "sqlite"
    statement = statement.replace("{now}", _NOW_SQLITE if sqlite else _NOW_POSTGRESQL)
    return statement if sqlite else statement.replace("?", "%s")


@dataclass(frozen=True, slots=True)
class Head:
    """Where the log ends: how many leaves it has, the latest time of their events, the last one's leaf hash."""

    size: int = 0
    high_us: int = 0
    last_hash: bytes = b""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the log ends, and who writes it."""

    head: Head
    epoch: int
    """Counts the writers."""


# leaf_index, event_id, time_us, high_us, tokens, leaf
LeafRow = tuple[int, bytes, int, int, bytes, bytes]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One sealed event and its place; `high_us` is the latest time of it and all before it."""

    leaf_index: int
    time_us: int
    high_us: int
    leaf: bytes

    @property
    def position(self) -> Position:
        """Where it stands in order of time."""
        return self.time_us, self.leaf_index

    @property
    def is_late(self) -> bool:
        """Whether the index of late leaves has it."""
        return self.time_us < self.high_us - ON_TIME_US


# Time, and place in the log.
Position = tuple[int, int]


class LogStore:
    """Reads and writes the log."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept = KeptConnection(engine)
        self._sqlite = engine.dialect.name == "sqlite"
        self._move_head = driver_sql(engine, _MOVE_HEAD)
        self._put_tiles = driver_sql(engine, _PUT_TILES)
        self._beat = driver_sql(engine, _BEAT)
        self._beat_there = driver_sql(engine, _BEAT_THERE)

    def writing(self) -> AbstractContextManager[Connection]:
        """A durable transaction. Raises AUDIT_STORAGE_FULL or AUDIT_STORAGE_FAILED; IntegrityError passes through."""
        return _translated(transaction(self._engine))

    def looking(self) -> AbstractContextManager[Connection]:
        """A view as of one moment, for what is to be appended. Raises as `writing` does."""
        return _translated(reading(self._engine))

    def appending(self) -> AbstractContextManager[Connection]:
        """A durable transaction for the log's one writer, who comes back at once. Raises as `writing` does."""
        return _translated(self._kept.transaction())

    def close(self) -> None:
        """Gives back what the writer kept."""
        self._kept.close()

    # --- the end of the log

    def head(self) -> Head:
        """Where the log ends."""
        with reading(self._engine) as connection:
            row = connection.execute(select(heads.c.size, heads.c.high_us, heads.c.last_hash)).one()
        return Head(*row)

    def take_over(self) -> int:
        """Makes the caller the one writer, whoever was it before; its epoch."""
        with self.writing() as connection:
            connection.execute(update(heads).values(epoch=heads.c.epoch + 1))
            epoch: int = connection.execute(select(heads.c.epoch)).scalar_one()
            connection.exec_driver_sql(self._beat, (_HEAD, epoch))
        return epoch

    def standing(self) -> Standing:
        """Where the log ends by now, once no transaction that would move it is under way."""
        with self.writing() as connection:
            row = connection.execute(select(heads).with_for_update()).one()
        return Standing(Head(row.size, row.high_us, bytes(row.last_hash)), row.epoch)

    def beat_of_writer(self) -> tuple[Standing, int]:
        """The newest writer and where the log ends, and when it wrote last; they change as long as one writes."""
        wanted = select(heads.c.size, heads.c.high_us, heads.c.last_hash, heads.c.epoch, heads.c.beat_us)
        with _translated(reading(self._engine)) as connection:
            *head, epoch, beat_us = connection.execute(wanted).one()
        return Standing(Head(*head), epoch), beat_us

    def move_head(self, connection: Connection, before: Head, after: Head, epoch: int) -> bool:
        """Moves the end of the log from where the writer of an epoch believes it to be; False when it is elsewhere, or
        there is another writer."""
        moved = connection.exec_driver_sql(
            self._move_head,
            (after.size, after.high_us, after.last_hash, _HEAD, before.size, before.last_hash, epoch),
        )
        return moved.rowcount == 1

    def insert_leaves(self, connection: Connection, rows: Sequence[LeafRow]) -> None:
        """Adds leaves; an event that is in the log already violates a constraint."""
        if self._sqlite:
            connection.exec_driver_sql(_INSERT_SQLITE, list(rows))
        else:
            connection.exec_driver_sql(_INSERT_POSTGRESQL, tuple(list(column) for column in zip(*rows, strict=True)))

    def put_tiles(self, connection: Connection, changed: Sequence[Tile]) -> None:
        """Adds tiles, or puts them in the place of what they were before they grew."""
        if changed:
            connection.exec_driver_sql(self._put_tiles, [(tile.level, tile.number, tile.hashes) for tile in changed])

    def beat(self, epoch: int, head: Head) -> bool:
        """Writes durably that the writer of an epoch is there; False when there is another, or the log does not end
        where that one believes it to. Raises as `writing` does when that is not possible."""
        with self.appending() as connection:
            return self.is_written_by(connection, epoch, head)

    def is_written_by(self, connection: Connection, epoch: int, head: Head) -> bool:
        """Whether the writer of an epoch is the newest and the log ends there, which does not change before the
        transaction ends."""
        beaten = connection.exec_driver_sql(self._beat_there, (_HEAD, epoch, head.size, head.last_hash))
        return beaten.rowcount == 1

    # --- single leaves and tiles

    def known(self, event_ids: Sequence[bytes]) -> dict[bytes, int]:
        """Which of these events are in the log, and where. Raises AUDIT_STORAGE_FAILED."""
        with self.looking() as connection:
            query = select(leaves.c.event_id, leaves.c.leaf_index).where(leaves.c.event_id.in_(event_ids))
            return {bytes(row.event_id): row.leaf_index for row in connection.execute(query)}

    def by_event(self, event_id: bytes) -> Leaf | None:
        """The leaf of one event."""
        rows = self._read(f"SELECT {_LEAF_COLUMNS} FROM leaves WHERE event_id = ?", (event_id,))  # noqa: S608  # our own words
        return Leaf(*rows[0]) if rows else None

    def entries(self, start: int, end: int) -> list[bytes]:
        """The leaves themselves of a range, in order of the log."""
        rows = self._read(
            "SELECT leaf FROM leaves WHERE leaf_index >= ? AND leaf_index < ? ORDER BY leaf_index", (start, end)
        )
        return [bytes(leaf) for (leaf,) in rows]

    def tile(self, level: int, number: int) -> bytes | None:
        """The hashes of a tile as far as the database keeps them."""
        rows = self._read("SELECT hashes FROM tiles WHERE level = ? AND number = ?", (level, number))
        return bytes(rows[0][0]) if rows else None

    def high_us(self, index: int) -> int:
        """The latest time of a leaf and all before it; of an archived one that of its bundle's end. Raises
        AUDIT_RECORD_REFUSED for one that is missing."""
        archived = self._read("SELECT high_us FROM archives WHERE number = ?", (index // WIDTH,))
        found = archived or self._read("SELECT high_us FROM leaves WHERE leaf_index = ?", (index,))
        if not found:
            raise StrongroomError(Reason.AUDIT_RECORD_REFUSED, f"leaf {index} of the audit log is missing")
        return int(found[0][0])

    def tokens(self, start: int, end: int) -> list[bytes]:
        """The tokens of the leaves of a range; none of one that has no row."""
        rows = self._read(
            "SELECT leaf_index, tokens FROM leaves WHERE leaf_index >= ? AND leaf_index < ?", (start, end)
        )
        found = {index: bytes(tokens) for index, tokens in rows}
        return [found.get(index, b"") for index in range(start, end)]

    def has_tokens(self) -> bool:
        """Whether any leaf was ever given tokens."""
        return any(
            self._read(f"SELECT 1 FROM {rows} LIMIT 1", ())  # noqa: S608  # our own words
            for rows in ("leaves WHERE length(tokens) > 0", "index_blocks", "archives")
        )

    def has_events(self) -> bool:
        """Whether there ever was an event."""
        return bool(self.head().size) or any(
            self._read(f"SELECT 1 FROM {rows} LIMIT 1", ())  # noqa: S608  # our own words
            for rows in ("leaves", "archives", "sealing_keys", "checkpoints")
        )

    # --- searching

    def matching(self, ranges: Sequence[tuple[int, int]], tokens: Sequence[bytes], *, newest_first: bool) -> list[Leaf]:
        """The leaves of some ranges that have all of the tokens, or none yet, in order of the log."""
        # Not one SELECT for each range: planning them would take longer than reading.
        query = (
            f"WITH spans (first_index, end_index) AS (VALUES {', '.join(['(?, ?)'] * len(ranges))}) "  # noqa: S608  # our own words
            f"SELECT {_LEAF_COLUMNS} FROM spans CROSS JOIN leaves "
            f"WHERE leaf_index >= first_index AND leaf_index < end_index AND {self._has(len(tokens))} "
            f"ORDER BY leaf_index {_direction(newest_first)}"
        )
        bounds = [bound for of_one in ranges for bound in of_one]
        rows = self._read(query, (*bounds, *tokens))
        return [Leaf(*row) for row in rows]

    def late(
        self, start: Position, end: Position, tokens: Sequence[bytes], limit: int, *, newest_first: bool
    ) -> list[Leaf]:
        """Late leaves with start ≤ position < end that have all of the tokens, in order of time."""
        direction = _direction(newest_first)
        query = (
            f"SELECT {_LEAF_COLUMNS} FROM leaves WHERE time_us < high_us - {ON_TIME_US} "  # noqa: S608  # our own words
            f"AND (time_us, leaf_index) >= (?, ?) AND (time_us, leaf_index) < (?, ?) AND {self._has(len(tokens))} "
            f"ORDER BY time_us {direction}, leaf_index {direction} LIMIT ?"
        )
        return [Leaf(*row) for row in self._read(query, (*start, *end, *tokens, limit))]

    def _has(self, count: int) -> str:
        one = "instr(tokens, ?) > 0" if self._sqlite else "position(CAST(? AS bytea) IN tokens) > 0"
        return f"({' AND '.join([one] * count)} OR length(tokens) = 0)"

    def _read(self, query: str, values: Sequence[Any]) -> Sequence[Any]:
        with reading(self._engine) as connection:
            return connection.exec_driver_sql(driver_sql(self._engine, query), tuple(values)).all()


def _direction(newest_first: bool) -> str:
    return "DESC" if newest_first else "ASC"


@contextmanager
def _translated(transaction: AbstractContextManager[Connection]) -> Iterator[Connection]:
    try:
        with transaction as connection:
            yield connection
    except StrongroomError as error:
        if error.reason is not Reason.DATABASE_UNAVAILABLE:
            raise
        raise _storage_failure(error.__cause__) from error
    except DBAPIError as error:
        if _is_full(error):
            raise _storage_failure(error) from error
        raise


def is_away(error: StrongroomError) -> bool:
    """Whether an error only says that the database cannot be reached or written just now."""
    cause = error.__cause__
    return error.reason is Reason.DATABASE_UNAVAILABLE or (isinstance(cause, StrongroomError) and is_away(cause))


def _is_full(error: BaseException | None) -> bool:
    cause = getattr(error, "orig", None)
    # SQLite's own code; PostgreSQL's disk_full (53100).
    return getattr(cause, "sqlite_errorname", "") == "SQLITE_FULL" or getattr(cause, "sqlstate", "") == "53100"


def _storage_failure(error: BaseException | None) -> StrongroomError:
    if _is_full(error):
        return StrongroomError(
            Reason.AUDIT_STORAGE_FULL, "the audit log cannot be written: its storage is full", peer="audit"
        )
    return StrongroomError(
        Reason.AUDIT_STORAGE_FAILED, "the audit log cannot be written: its database fails", peer="audit"
    )
