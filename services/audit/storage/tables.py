"""The tables of a log's database."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    text,
)

from services.runtime.storage.outbox import outbox_table
from services.runtime.storage.row_seals import seal_column

metadata = MetaData()

outbox = outbox_table(metadata)

_BIG = BigInteger().with_variant(Integer, "sqlite")

ON_TIME_US = 1_000_000
"""A leaf whose event is older than the newest one before it by more than this is late: an index of its own has it, so
that leaves in order of the log are in order of time but for this much."""

# One row: where the log ends, and who writes it. Each append moves the end from where the writer believes it to be, as
# long as no later writer took over, or does not happen.
heads = Table(
    "heads",
    metadata,
    Column("head_id", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
    Column("high_us", BigInteger, nullable=False),
    Column("last_hash", LargeBinary, nullable=False),
    # Counts the writers; whoever takes over adds one.
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    # When the writer last wrote, by the database's clock.
    Column("beat_us", BigInteger, nullable=False, server_default="0"),
)

leaves = Table(
    "leaves",
    metadata,
    Column("leaf_index", _BIG, primary_key=True, autoincrement=False),
    Column("event_id", LargeBinary(16), nullable=False, unique=True),
    Column("time_us", BigInteger, nullable=False),
    # The latest time of this leaf and all before it.
    Column("high_us", BigInteger, nullable=False),
    # What the event is found by (index/tree.py).
    Column("tokens", LargeBinary, nullable=False),
    Column("leaf", LargeBinary, nullable=False),
)
Index(
    "leaves_late",
    leaves.c.time_us,
    leaves.c.leaf_index,
    sqlite_where=text(f"time_us < high_us - {ON_TIME_US}"),
    postgresql_where=text(f"time_us < high_us - {ON_TIME_US}"),
)

# Hash tiles (C2SP tlog-tiles): every full one, and from level 1 on the one that is being filled.
tiles = Table(
    "tiles",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("number", _BIG, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
)

# Which parts of a node have which tokens (index/postings.py).
index_blocks = Table(
    "index_blocks",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("block", Integer, primary_key=True, autoincrement=False),
    Column("node", _BIG, primary_key=True, autoincrement=False),
    Column("pairs", LargeBinary, nullable=False),
)

# Bundles of leaves that are out of the way (retention/archive.py).
archives = Table(
    "archives",
    metadata,
    Column("number", _BIG, primary_key=True, autoincrement=False),
    # Of its events, the earliest and the latest time; and the latest of them and all before.
    Column("first_us", BigInteger, nullable=False),
    Column("last_us", BigInteger, nullable=False),
    Column("high_us", BigInteger, nullable=False),
    # How many of the leaves that have no row any more are sealed under which key.
    Column("key_counts", LargeBinary, nullable=False),
    Column("content", LargeBinary, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("tree_size", _BIG, primary_key=True, autoincrement=False),
    Column("root_hash", LargeBinary(32), nullable=False),
    Column("signed_us", BigInteger, nullable=False),
    # The note with the log's own signatures, and cosignature lines beside it.
    Column("note", LargeBinary, nullable=False),
    Column("cosignatures", Text, nullable=False, server_default=""),
    Column("published", Boolean, nullable=False),
    Index("checkpoints_published", "published", "tree_size"),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("key_id", LargeBinary(16), primary_key=True),
    Column("verifier_key", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)

# Keys that crypto wraps for this service: sealing roots, signing keys, the key of the index.
service_keys = Table(
    "service_keys",
    metadata,
    Column("key_id", LargeBinary(16), primary_key=True),
    Column("purpose", String(64), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("root_version", Integer, nullable=False),
    Index("service_keys_by_purpose", "purpose", "created_us"),
)

# What services of the mesh destroyed for good, by the name of the service, whatever their own databases say.
destroyed_items = Table(
    "destroyed_items",
    metadata,
    Column("service", String(255)),
    Column("item_id", LargeBinary(32)),
    PrimaryKeyConstraint("service", "item_id"),
)

sealing_keys = Table(
    "sealing_keys",
    metadata,
    Column("key_id", LargeBinary(16), primary_key=True),
    Column("account", String(63), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("root_id", LargeBinary(16), nullable=False),
    # The key, or what tells that the service destroyed it (keys/sealing_wraps.py).
    Column("wrapped", LargeBinary, nullable=False),
    Index("sealing_keys_by_account", "account", "created_us"),
)

retention_policies = Table(
    "retention_policies",
    metadata,
    Column("account", String(63), primary_key=True),
    Column("archive_after_days", Integer, nullable=False),
    # 0 for never.
    Column("shred_after_days", Integer, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("revision", Integer, nullable=False),
    seal_column(),
)

legal_holds = Table(
    "legal_holds",
    metadata,
    Column("account", String(63), primary_key=True),
    Column("active", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("revision", Integer, nullable=False),
    seal_column(),
)

# What the sealed tables have in all (retention/sealed_sets.py).
sealed_sets = Table(
    "sealed_sets",
    metadata,
    Column("name", String(63), primary_key=True),
    # Of the seals of its rows.
    Column("digest", LargeBinary(32), nullable=False),
    Column("revision", BigInteger, nullable=False),
    seal_column(),
)
