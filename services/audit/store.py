"""The log's database: SQL and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import DBAPIError

from services.audit.tables import leaves, probes, sealing_keys, sealing_roots
from services.runtime.database import reading, transaction
from services.runtime.errors import Reason, StrongroomError


@dataclass(frozen=True, slots=True)
class Leaf:
    """One sealed event, and what it is found by."""

    leaf_index: int
    event_id: bytes
    account: str
    time_us: int
    leaf: bytes


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A sealing key as the database keeps it."""

    key_id: bytes
    account: str
    created_us: int
    root_id: bytes
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class WrappedRoot:
    """A sealing root as the database keeps it: wrapped by crypto."""

    root_id: bytes
    created_us: int
    wrapped: bytes
    root_version: int
    """Of the root key."""


# Where a page ended: time and index of its last leaf.
Position = tuple[int, int]


class LogStore:
    """Reads and writes the log."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A durable transaction. Raises AUDIT_STORAGE_FULL or AUDIT_STORAGE_FAILED; IntegrityError passes through."""
        try:
            with transaction(self._engine) as connection:
                yield connection
        except StrongroomError as error:
            raise _storage_failure(error.__cause__) from error
        except DBAPIError as error:
            if _is_full(error):
                raise _storage_failure(error) from error
            raise

    def size(self) -> int:
        """How many leaves the log has."""
        with reading(self._engine) as connection:
            last = connection.execute(select(func.max(leaves.c.leaf_index))).scalar()
        return 0 if last is None else int(last) + 1

    def insert_leaves(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Adds leaves; an event that is in the log already violates a constraint."""
        connection.execute(insert(leaves), rows)

    def known(self, event_ids: Sequence[bytes]) -> dict[bytes, int]:
        """Which of these events are in the log, and where."""
        with reading(self._engine) as connection:
            query = select(leaves.c.event_id, leaves.c.leaf_index).where(leaves.c.event_id.in_(event_ids))
            return {bytes(row.event_id): row.leaf_index for row in connection.execute(query)}

    def by_event(self, account: str, event_id: bytes) -> Leaf | None:
        """The leaf of one event of an account."""
        query = select(leaves).where(leaves.c.event_id == event_id, leaves.c.account == account)
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        return Leaf(**row._mapping) if row else None

    def by_time(
        self,
        account: str,
        start_us: int | None,
        end_us: int | None,
        after: Position | None,
        limit: int,
        *,
        newest_first: bool,
    ) -> list[Leaf]:
        """Leaves of an account with start ≤ time < end, in order of time, from behind `after`."""
        query = select(leaves).where(leaves.c.account == account)
        if start_us is not None:
            query = query.where(leaves.c.time_us >= start_us)
        if end_us is not None:
            query = query.where(leaves.c.time_us < end_us)
        if after is not None:
            time_us, index = after
            same = leaves.c.time_us == time_us
            if newest_first:
                query = query.where(or_(leaves.c.time_us < time_us, and_(same, leaves.c.leaf_index < index)))
            else:
                query = query.where(or_(leaves.c.time_us > time_us, and_(same, leaves.c.leaf_index > index)))
        columns = (leaves.c.time_us, leaves.c.leaf_index)
        query = query.order_by(*(column.desc() if newest_first else column for column in columns)).limit(limit)
        with reading(self._engine) as connection:
            return [Leaf(**row._mapping) for row in connection.execute(query)]

    def probe(self, now_us: int) -> None:
        """Writes durably, to no effect; raises as `writing` does when that is not possible."""
        with self.writing() as connection:
            connection.execute(delete(probes))
            connection.execute(insert(probes).values(probe_id=1, probed_us=now_us))

    def newest_root(self) -> WrappedRoot | None:
        """The sealing root that was made last."""
        query = select(sealing_roots).order_by(sealing_roots.c.created_us.desc()).limit(1)
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        return WrappedRoot(**row._mapping) if row else None

    def root(self, root_id: bytes) -> WrappedRoot | None:
        """One sealing root."""
        with reading(self._engine) as connection:
            row = connection.execute(select(sealing_roots).where(sealing_roots.c.root_id == root_id)).one_or_none()
        return WrappedRoot(**row._mapping) if row else None

    def insert_root(self, root: WrappedRoot) -> None:
        """Adds a sealing root."""
        with self.writing() as connection:
            connection.execute(
                insert(sealing_roots).values(
                    root_id=root.root_id,
                    created_us=root.created_us,
                    wrapped=root.wrapped,
                    root_version=root.root_version,
                )
            )

    def roots_below(self, root_version: int, limit: int) -> list[WrappedRoot]:
        """Sealing roots that are wrapped under versions of the root key below this one."""
        query = select(sealing_roots).where(sealing_roots.c.root_version < root_version).limit(limit)
        with reading(self._engine) as connection:
            return [WrappedRoot(**row._mapping) for row in connection.execute(query)]

    def count_roots_below(self, root_version: int) -> int:
        """How many there are."""
        query = select(func.count()).where(sealing_roots.c.root_version < root_version)
        with reading(self._engine) as connection:
            return int(connection.execute(query).scalar_one())

    def replace_root(self, root: WrappedRoot) -> None:
        """Puts a sealing root that is wrapped anew in the place of the old one."""
        with self.writing() as connection:
            connection.execute(
                update(sealing_roots)
                .where(sealing_roots.c.root_id == root.root_id)
                .values(wrapped=root.wrapped, root_version=root.root_version)
            )

    def key(self, key_id: bytes) -> WrappedKey | None:
        """One sealing key."""
        with reading(self._engine) as connection:
            row = connection.execute(select(sealing_keys).where(sealing_keys.c.key_id == key_id)).one_or_none()
        return WrappedKey(**row._mapping) if row else None

    def insert_key(self, connection: Connection, key: WrappedKey) -> None:
        """Adds a sealing key, with the first leaf that it seals."""
        connection.execute(
            insert(sealing_keys).values(
                key_id=key.key_id,
                account=key.account,
                created_us=key.created_us,
                root_id=key.root_id,
                wrapped=key.wrapped,
            )
        )


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
