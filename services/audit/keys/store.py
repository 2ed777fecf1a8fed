"""The keys in a log's database, each of them wrapped: SQL and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from sqlalchemy import Connection, Engine, func, insert, select, update

from services.audit.storage.tables import leaves, sealing_keys, service_keys, signing_keys
from services.runtime.storage.database import reading, transaction


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """A key that crypto wrapped for this service."""

    key_id: bytes
    purpose: str
    created_us: int
    wrapped: bytes
    root_version: int
    """Of the root key."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A sealing key, wrapped under a sealing root, or what is left of it (sealing_wraps.py)."""

    key_id: bytes
    account: str
    created_us: int
    root_id: bytes
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class PublicSigningKey:
    """A key that the log signs with or signed with; its private half is the service key of the same id."""

    key_id: bytes
    verifier_key: str
    created_us: int


class WrappedKeys:
    """Reads and writes keys. Methods raise DATABASE_UNAVAILABLE."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def newest_service_key(self, purpose: str) -> ServiceKey | None:
        """The one that was made last for a purpose."""
        query = select(service_keys).where(service_keys.c.purpose == purpose)
        with reading(self._engine) as connection:
            row = connection.execute(query.order_by(service_keys.c.created_us.desc()).limit(1)).one_or_none()
        return ServiceKey(**row._mapping) if row else None

    def service_key(self, key_id: bytes) -> ServiceKey | None:
        """One of them."""
        with reading(self._engine) as connection:
            row = connection.execute(select(service_keys).where(service_keys.c.key_id == key_id)).one_or_none()
        return ServiceKey(**row._mapping) if row else None

    def insert_service_key(self, key: ServiceKey) -> None:
        """Adds one."""
        with transaction(self._engine) as connection:
            connection.execute(insert(service_keys).values(astuple(key)))

    def service_keys(self) -> list[ServiceKey]:
        """All of them."""
        with reading(self._engine) as connection:
            return [ServiceKey(**row._mapping) for row in connection.execute(select(service_keys))]

    def missing_service_keys(self) -> list[bytes]:
        """Those that something in the log's database is under, or signed with, and that are not there."""
        there = select(service_keys.c.key_id)
        needed = (
            select(sealing_keys.c.root_id).where(sealing_keys.c.root_id.not_in(there)).distinct(),
            select(signing_keys.c.key_id).where(signing_keys.c.key_id.not_in(there)),
        )
        with reading(self._engine) as connection:
            return [bytes(key_id) for query in needed for key_id in connection.execute(query).scalars()]

    def count_service_keys_below(self, root_version: int) -> int:
        """How many there are."""
        query = select(func.count()).where(service_keys.c.root_version < root_version)
        with reading(self._engine) as connection:
            return int(connection.execute(query).scalar_one())

    def replace_service_key(self, key: ServiceKey) -> None:
        """Puts a key that is wrapped anew in the place of the old blob."""
        with transaction(self._engine) as connection:
            connection.execute(
                update(service_keys)
                .where(service_keys.c.key_id == key.key_id)
                .values(wrapped=key.wrapped, root_version=key.root_version)
            )

    def sealing_key(self, key_id: bytes) -> WrappedKey | None:
        """One sealing key."""
        with reading(self._engine) as connection:
            row = connection.execute(select(sealing_keys).where(sealing_keys.c.key_id == key_id)).one_or_none()
        return WrappedKey(**row._mapping) if row else None

    def sealing_keys_after(self, key_id: bytes, limit: int) -> list[WrappedKey]:
        """Sealing keys by their ids, from the first behind `key_id`."""
        query = select(sealing_keys).where(sealing_keys.c.key_id > key_id).order_by(sealing_keys.c.key_id)
        with reading(self._engine) as connection:
            return [WrappedKey(**row._mapping) for row in connection.execute(query.limit(limit))]

    def without_sealing_key(self, start: int, end: int) -> int:
        """How many leaves from `start` to, not including, `end` are sealed under keys that have no row."""
        key_of_leaf = func.substr(leaves.c.leaf, 2, 16)
        known = select(sealing_keys.c.key_id).where(sealing_keys.c.key_id == key_of_leaf).exists()
        query = select(func.count()).where(leaves.c.leaf_index >= start, leaves.c.leaf_index < end, ~known)
        with reading(self._engine) as connection:
            return int(connection.execute(query).scalar_one())

    def insert_sealing_key(self, connection: Connection, key: WrappedKey) -> None:
        """Adds a sealing key, with the first leaf that it seals."""
        connection.execute(insert(sealing_keys).values(astuple(key)))

    def signing_keys(self) -> Sequence[PublicSigningKey]:
        """Every key that the log ever signed with, newest first."""
        query = select(signing_keys).order_by(signing_keys.c.created_us.desc())
        with reading(self._engine) as connection:
            return [PublicSigningKey(**row._mapping) for row in connection.execute(query)]

    def count_lost_signing_keys(self, purpose: str) -> int:
        """How many keys of the purpose the log once signed with, though nothing says so any more."""
        known = select(signing_keys.c.key_id)
        of_purpose = service_keys.c.purpose == purpose
        query = select(func.count()).select_from(service_keys).where(of_purpose, service_keys.c.key_id.not_in(known))
        with reading(self._engine) as connection:
            return int(connection.execute(query).scalar_one())

    def insert_signing_key(self, key: PublicSigningKey) -> None:
        """Adds one."""
        with transaction(self._engine) as connection:
            connection.execute(insert(signing_keys).values(astuple(key)))
