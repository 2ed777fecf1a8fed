"""Keystore's tables. Key material is here as wrapped blobs alone.

Rows that decide over anything are sealed (services/runtime/storage/row_seals.py): a column that is added later
says so in its `info`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from services.runtime.storage.outbox import outbox_table
from services.runtime.storage.request_ids import requests_table
from services.runtime.storage.row_seals import UNSEALED, seal_column

metadata = MetaData()

# Says when, and no more: who writes here could as well take the row away.
_WHEN = {UNSEALED: True}
# Opens for its own key version alone.
_BLOB = {UNSEALED: True}
# How many messages there were. Who puts it back has a version used beyond its limit.
_COUNT = {UNSEALED: True}

# One row: the number of the last change. Whoever writes takes it first, so changes commit in the order of numbers.
revision = Table(
    "revision",
    metadata,
    Column("row_id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    # Which of PostgreSQL's timelines the number is of; nothing before anybody has looked.
    Column("history", String(63)),
)

changes = Table(
    "changes",
    metadata,
    Column("revision", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("kind", Integer, nullable=False),
    Column("resource", String(255), nullable=False),
    Column("key_uid", LargeBinary(16), nullable=False),
    Column("account", String(63), nullable=False),
    seal_column(),
)

keys = Table(
    "keys",
    metadata,
    Column("account", String(63)),
    Column("key_id", String(63)),
    Column("uid", LargeBinary(16), nullable=False, unique=True),
    Column("spec", Integer, nullable=False),
    Column("usage", Integer, nullable=False),
    Column("protection_level", Integer, nullable=False),
    Column("origin", Integer, nullable=False),
    Column("state", Integer, nullable=False),
    Column("description", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("deletion_protection", Boolean, nullable=False),
    Column("primary_version", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("rotated_us", BigInteger, nullable=False, info=_WHEN),
    Column("rotation_period_s", BigInteger),
    Column("next_rotate_us", BigInteger, info=_WHEN),
    Column("delete_us", BigInteger, info=_WHEN),
    Column("destroyed_us", BigInteger),
    # That of the primary version.
    Column("expires_us", BigInteger),
    # Of the seals of its versions: one more or less, or an older one, is noticed.
    Column("versions_digest", LargeBinary(32)),
    seal_column(),
    PrimaryKeyConstraint("account", "key_id"),
    Index("keys_by_delete_us", "delete_us"),
    Index("keys_by_next_rotate_us", "next_rotate_us"),
)

# The keys' tags once more, to find keys by them: a filtered list walks along the primary key, in the order of key ids.
key_tags = Table(
    "key_tags",
    metadata,
    Column("account", String(63)),
    Column("tag_key", String(128)),
    Column("tag_value", String(256)),
    Column("key_id", String(63)),
    PrimaryKeyConstraint("account", "tag_key", "tag_value", "key_id"),
    ForeignKeyConstraint(["account", "key_id"], ["keys.account", "keys.key_id"]),
    Index("key_tags_by_key", "account", "key_id"),
)

key_versions = Table(
    "key_versions",
    metadata,
    Column("uid", LargeBinary(16)),
    Column("version", Integer, autoincrement=False),
    Column("state", Integer, nullable=False),
    Column("origin", Integer, nullable=False),
    Column("wrapped", LargeBinary, info=_BLOB),
    Column("public_key", LargeBinary),
    Column("root_version", Integer, nullable=False, info=_BLOB),
    Column("created_us", BigInteger, nullable=False),
    Column("destroyed_us", BigInteger),
    Column("imported_us", BigInteger),
    Column("expires_us", BigInteger, info=_WHEN),
    Column("fingerprint", LargeBinary(128)),
    Column("message_count", BigInteger, nullable=False, info=_COUNT),
    Column("retired_us", BigInteger, info=_COUNT),
    seal_column(),
    PrimaryKeyConstraint("uid", "version"),
    ForeignKeyConstraint(["uid"], ["keys.uid"]),
    Index("key_versions_by_destroyed_us", "destroyed_us"),
    Index("key_versions_by_expires_us", "expires_us"),
    Index("key_versions_by_message_count", "message_count"),
    Index("key_versions_by_root_version", "root_version", "uid", "version"),
)

# Versions of the root key, known here since the first rotation. Whoever stores a blob locks the row of its root
# version, so that none is retired under a blob on its way in.
root_versions = Table(
    "root_versions",
    metadata,
    Column("root_version", Integer, primary_key=True, autoincrement=False),
    Column("retired_us", BigInteger),
)

# One row: the rotation that runs, or the last one.
root_rotation = Table(
    "root_rotation",
    metadata,
    Column("row_id", Integer, primary_key=True, autoincrement=False),
    Column("target_version", Integer, nullable=False),
    Column("state", Integer, nullable=False),
    Column("total_count", BigInteger, nullable=False),
    Column("done_count", BigInteger, nullable=False),
    Column("failed_count", BigInteger, nullable=False),
    Column("error_reason", String(63), nullable=False),
    Column("error_detail", Text, nullable=False),
    Column("cursor_uid", LargeBinary(16), nullable=False),
    Column("cursor_version", Integer, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("progressed_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("pass_us", BigInteger, nullable=False),
    seal_column(),
)

aliases = Table(
    "aliases",
    metadata,
    Column("account", String(63)),
    Column("alias_id", String(63)),
    Column("key_uid", LargeBinary(16), nullable=False),
    Column("description", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    seal_column(),
    PrimaryKeyConstraint("account", "alias_id"),
    ForeignKeyConstraint(["key_uid"], ["keys.uid"]),
    Index("aliases_by_key", "key_uid"),
)

# Which key an alias stood for when it was deleted: a new one of its name stands for another only where that is
# permitted.
deleted_aliases = Table(
    "deleted_aliases",
    metadata,
    Column("account", String(63)),
    Column("alias_id", String(63)),
    Column("key_uid", LargeBinary(16), nullable=False),
    seal_column(),
    PrimaryKeyConstraint("account", "alias_id"),
    ForeignKeyConstraint(["key_uid"], ["keys.uid"]),
)

# What calls with a request id did, so that they can be repeated.
requests = requests_table(metadata, seal_column())

outbox = outbox_table(metadata, seal_column())
