"""The index's blocks in the log's database: SQL and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Engine, func, select

from services.audit.index.postings import Block, blocks_at
from services.audit.storage.store import driver_sql
from services.audit.storage.tables import index_blocks
from services.runtime.storage.database import reading

_PUT = (
    "INSERT INTO index_blocks (level, block, node, pairs) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (level, block, node) DO UPDATE SET pairs = excluded.pairs"
)


class IndexStore:
    """Reads and writes blocks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._put = driver_sql(engine, _PUT)

    def put(self, connection: Connection, blocks: Sequence[Block]) -> None:
        """Adds blocks; one that a process which ended before its node was complete has left is replaced."""
        if blocks:
            rows = [(block.level, block.number, block.node, block.pairs) for block in blocks]
            connection.exec_driver_sql(self._put, rows)

    def complete(self, level: int) -> int:
        """How many nodes of a level have all their blocks: those numbered below."""
        query = select(func.max(index_blocks.c.node)).where(
            index_blocks.c.level == level, index_blocks.c.block == blocks_at(level) - 1
        )
        with reading(self._engine) as connection:
            last = connection.execute(query).scalar()
        return 0 if last is None else int(last) + 1

    def pairs(self, level: int, places: Sequence[int], nodes: Sequence[int]) -> list[dict[int, bytes]]:
        """For each number of a block its pairs in these nodes."""
        marks = ", ".join("?" * len(nodes))
        query = driver_sql(
            self._engine,
            f"SELECT node, pairs FROM index_blocks WHERE level = ? AND block = ? AND node IN ({marks})",  # noqa: S608  # marks
        )
        with reading(self._engine) as connection:
            return [
                {node: bytes(pairs) for node, pairs in connection.exec_driver_sql(query, (level, number, *nodes))}
                for number in places
            ]
