"""Checkpoints in the log's database: SQL and nothing else."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from sqlalchemy import Connection, Engine, insert, select, update

from services.audit.storage.store import LogStore
from services.audit.storage.tables import checkpoints
from services.runtime.storage.database import reading


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint that the log signed; `published` once enough witnesses cosigned it."""

    tree_size: int
    root_hash: bytes
    signed_us: int
    signed: bytes
    """The note with the log's own signatures."""
    cosignatures: str
    """Further signature lines, each ended by a newline."""
    published: bool

    @property
    def note(self) -> bytes:
        """The whole signed note."""
        return self.signed + self.cosignatures.encode()


class PublicationStore:
    """Reads and writes checkpoints."""

    def __init__(self, engine: Engine, store: LogStore) -> None:
        self._engine = engine
        self._store = store

    def insert(self, connection: Connection, checkpoint: SignedCheckpoint) -> None:
        """Adds a checkpoint; one of a size that has one violates a constraint."""
        connection.execute(insert(checkpoints).values(astuple(checkpoint)))

    def cosigned(self, connection: Connection, checkpoint: SignedCheckpoint) -> None:
        """Keeps a checkpoint's cosignatures, and whether it counts as published."""
        connection.execute(
            update(checkpoints)
            .where(checkpoints.c.tree_size == checkpoint.tree_size)
            .values(cosignatures=checkpoint.cosignatures, published=checkpoint.published)
        )

    def newest(self, *, published: bool) -> SignedCheckpoint | None:
        """The checkpoint of the largest size, of those that are published or of all."""
        query = select(checkpoints).order_by(checkpoints.c.tree_size.desc()).limit(1)
        if published:
            query = query.where(checkpoints.c.published)
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        return SignedCheckpoint(*row) if row else None

    def at(self, tree_size: int) -> SignedCheckpoint | None:
        """The checkpoint of a size."""
        with reading(self._engine) as connection:
            row = connection.execute(select(checkpoints).where(checkpoints.c.tree_size == tree_size)).one_or_none()
        return SignedCheckpoint(*row) if row else None
