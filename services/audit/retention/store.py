"""How long an account's events are kept, and what holds them: SQL and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, bindparam, func, select, update

from services.audit.keys.sealing_wraps import DESTROYED_BYTES
from services.audit.retention.sealed_sets import SealedSets
from services.audit.storage.tables import leaves, legal_holds, retention_policies, sealing_keys
from services.runtime.storage.database import reading

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """When an account's events leave the index, and when they become unreadable; 0 for never."""

    account: str
    archive_after_days: int
    shred_after_days: int
    updated_us: int = 0
    revision: int = 0


@dataclass(frozen=True, slots=True)
class LegalHold:
    """While it is active, none of an account's events can be made unreadable."""

    account: str
    active: bool = False
    reason: str = ""
    changed_by: str = ""
    updated_us: int = 0
    revision: int = 0


class RetentionStore:
    """Reads and writes both, as `SealedSets` does, and destroys sealing keys: what is written, in a transaction of the
    log's `Changes`."""

    def __init__(self, sets: SealedSets) -> None:
        self._engine = sets.engine
        self._sets = sets

    def policy(self, account: str) -> RetentionPolicy | None:
        """An account's policy, where one was set."""
        with reading(self._engine) as connection:
            rows = self._sets.rows(connection, retention_policies)
        return next((_read(RetentionPolicy, row) for row in rows if row.account == account), None)

    def policies(self) -> list[RetentionPolicy]:
        """Every policy by which events become unreadable."""
        with reading(self._engine) as connection:
            rows = self._sets.rows(connection, retention_policies)
        return [_read(RetentionPolicy, row) for row in rows if row.shred_after_days]

    def put_policy(self, connection: Connection, policy: RetentionPolicy) -> None:
        """Puts a policy in the place of the one before."""
        this = retention_policies.c.account == policy.account
        self._sets.put(connection, retention_policies, this, asdict(policy))

    def hold(self, account: str) -> LegalHold | None:
        """An account's legal hold, where there ever was one."""
        with reading(self._engine) as connection:
            return self._hold(connection, account)

    def put_hold(self, connection: Connection, hold: LegalHold) -> None:
        """Puts a legal hold in the place of the one before."""
        self._sets.put(connection, legal_holds, legal_holds.c.account == hold.account, asdict(hold))

    def keys_before(self, account: str, before_us: int) -> list[bytes]:
        """The account's sealing keys that were made before a time and are not destroyed."""
        with reading(self._engine) as connection:
            query = select(sealing_keys.c.key_id).where(
                sealing_keys.c.account == account,
                sealing_keys.c.created_us < before_us,
                func.length(sealing_keys.c.wrapped) > DESTROYED_BYTES,
            )
            return [bytes(row.key_id) for row in connection.execute(query)]

    def count_sealed(self, keys: list[bytes]) -> int:
        """How many leaves are sealed under these keys. Looks at every leaf: for what is done seldom."""
        key_of_leaf = func.substr(leaves.c.leaf, 2, 16)
        with reading(self._engine, patient=True) as connection:
            return int(connection.execute(select(func.count()).where(key_of_leaf.in_(keys))).scalar_one())

    def prepare_to_destroy(self) -> None:
        """Does beforehand what would make `destroy` take long."""
        self._empty_write_ahead_log("PASSIVE")

    def destroy(self, connection: Connection, account: str, keys: Mapping[bytes, bytes]) -> bool:
        """Destroys sealing keys, for good, and puts what is given in their place; False, and nothing is done, while
        there is a legal hold."""
        hold = self._hold(connection, account)
        if hold is not None and hold.active:
            return False
        if self._engine.dialect.name == "sqlite":
            # What is overwritten is overwritten in the file.
            connection.exec_driver_sql("PRAGMA secure_delete=ON")
        this = sealing_keys.c.key_id == bindparam("destroyed")
        connection.execute(
            update(sealing_keys).where(this).values(wrapped=bindparam("tombstone")),
            [{"destroyed": key_id, "tombstone": tombstone} for key_id, tombstone in keys.items()],
        )
        return True

    def after_destruction(self) -> None:
        """Has what was overwritten leave the write-ahead log too; PostgreSQL keeps it until its vacuum."""
        self._empty_write_ahead_log("TRUNCATE")

    def _hold(self, connection: Connection, account: str) -> LegalHold | None:
        rows = self._sets.rows(connection, legal_holds)
        return next((_read(LegalHold, row) for row in rows if row.account == account), None)

    def _empty_write_ahead_log(self, mode: str) -> None:
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect() as connection:
                connection.connection.driver_connection.execute(f"PRAGMA wal_checkpoint({mode})")  # type: ignore[union-attr]


def _read(made: type[T], row: Row[Any]) -> T:
    return made(**{field.name: row._mapping[field.name] for field in fields(made)})  # type: ignore[arg-type]
