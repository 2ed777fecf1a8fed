"""How long an account's events are kept, and what holds them: SQL and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, Engine, bindparam, delete, func, insert, select, update

from services.audit.keys.sealing_wraps import DESTROYED_BYTES
from services.audit.storage.store import LogStore
from services.audit.storage.tables import leaves, legal_holds, retention_policies, sealing_keys
from services.runtime.storage.database import reading


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
    """Reads and writes both, and destroys sealing keys. Writing raises as `LogStore.writing`."""

    def __init__(self, engine: Engine, store: LogStore) -> None:
        self._engine = engine
        self._store = store

    def policy(self, account: str) -> RetentionPolicy | None:
        """An account's policy, where one was set."""
        with reading(self._engine) as connection:
            query = select(retention_policies).where(retention_policies.c.account == account)
            row = connection.execute(query).one_or_none()
        return RetentionPolicy(**row._mapping) if row else None

    def policies(self) -> list[RetentionPolicy]:
        """Every policy by which events become unreadable."""
        with reading(self._engine) as connection:
            query = select(retention_policies).where(retention_policies.c.shred_after_days > 0)
            return [RetentionPolicy(**row._mapping) for row in connection.execute(query)]

    def put_policy(self, policy: RetentionPolicy) -> None:
        """Puts a policy in the place of the one before."""
        with self._store.writing() as connection:
            connection.execute(delete(retention_policies).where(retention_policies.c.account == policy.account))
            connection.execute(insert(retention_policies).values(asdict(policy)))

    def hold(self, account: str) -> LegalHold | None:
        """An account's legal hold, where there ever was one."""
        with reading(self._engine) as connection:
            return _hold(connection, account)

    def put_hold(self, hold: LegalHold) -> None:
        """Puts a legal hold in the place of the one before."""
        with self._store.writing() as connection:
            connection.execute(delete(legal_holds).where(legal_holds.c.account == hold.account))
            connection.execute(insert(legal_holds).values(asdict(hold)))

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
        with reading(self._engine) as connection:
            return int(connection.execute(select(func.count()).where(key_of_leaf.in_(keys))).scalar_one())

    def prepare_to_destroy(self) -> None:
        """Does beforehand what would make `destroy` take long."""
        self._empty_write_ahead_log("PASSIVE")

    def destroy(self, account: str, keys: Mapping[bytes, bytes]) -> bool:
        """Destroys sealing keys, for good, and puts what is given in their place; False, and nothing is done, while
        there is a legal hold."""
        with self._store.writing() as connection:
            hold = _hold(connection, account)
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
        # What was overwritten is there still; in PostgreSQL too, until its vacuum.
        self._empty_write_ahead_log("TRUNCATE")
        return True

    def _empty_write_ahead_log(self, mode: str) -> None:
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect() as connection:
                connection.connection.driver_connection.execute(f"PRAGMA wal_checkpoint({mode})")  # type: ignore[union-attr]


def _hold(connection: Connection, account: str) -> LegalHold | None:
    row = connection.execute(select(legal_holds).where(legal_holds.c.account == account)).one_or_none()
    return LegalHold(**row._mapping) if row else None
