"""The audit service's tables."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table

metadata = MetaData()

leaves = Table(
    "leaves",
    metadata,
    Column("leaf_index", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("event_id", LargeBinary(16), nullable=False, unique=True),
    Column("account", String(63), nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("leaf", LargeBinary, nullable=False),
    Index("leaves_by_time", "account", "time_us", "leaf_index"),
)

sealing_roots = Table(
    "sealing_roots",
    metadata,
    Column("root_id", LargeBinary(16), primary_key=True),
    Column("created_us", BigInteger, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("root_version", Integer, nullable=False),
)

sealing_keys = Table(
    "sealing_keys",
    metadata,
    Column("key_id", LargeBinary(16), primary_key=True),
    Column("account", String(63), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("root_id", LargeBinary(16), nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Index("sealing_keys_by_account", "account", "created_us"),
)

# One row that a probe rewrites, to learn whether the database takes writes.
probes = Table(
    "probes",
    metadata,
    Column("probe_id", Integer, primary_key=True, autoincrement=False),
    Column("probed_us", BigInteger, nullable=False),
)
