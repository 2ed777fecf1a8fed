"""The secrets service's tables. No column holds a value, or a digest that a value could be guessed from."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from services.runtime.outbox import outbox_table

metadata = MetaData()

secrets = Table(
    "secrets",
    metadata,
    Column("account", String(63), primary_key=True),
    Column("secret_id", String(63), primary_key=True),
    Column("type", Integer, nullable=False),
    Column("state", Integer, nullable=False),
    Column("key_name", String(255), nullable=False),
    Column("description", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("retained_versions", Integer, nullable=False),
    Column("latest_version", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("account", String(63)),
    Column("secret_id", String(63)),
    Column("version", Integer, autoincrement=False),
    Column("state", Integer, nullable=False),
    Column("origin", Integer, nullable=False),
    Column("key_version", String(255), nullable=False),
    Column("format", Integer, nullable=False),
    Column("value_size", Integer, nullable=False),
    Column("data_key", LargeBinary),
    Column("sealed", LargeBinary),
    Column("created_us", BigInteger, nullable=False),
    Column("disabled_us", BigInteger),
    Column("destroyed_us", BigInteger),
    PrimaryKeyConstraint("account", "secret_id", "version"),
    ForeignKeyConstraint(["account", "secret_id"], ["secrets.account", "secrets.secret_id"]),
)

# A stage is at one version at a time, which the primary key holds true.
stages = Table(
    "stages",
    metadata,
    Column("account", String(63)),
    Column("secret_id", String(63)),
    Column("stage", String(63)),
    Column("version", Integer, nullable=False),
    PrimaryKeyConstraint("account", "secret_id", "stage"),
    ForeignKeyConstraint(
        ["account", "secret_id", "version"], ["versions.account", "versions.secret_id", "versions.version"]
    ),
)

# What calls with a request id did, so that they can be repeated. The digest covers everything but the value.
requests = Table(
    "requests",
    metadata,
    Column("account", String(63), primary_key=True),
    Column("request_id", String(36), primary_key=True),
    Column("digest", LargeBinary(32), nullable=False),
    Column("secret_id", String(63), nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_us", BigInteger, nullable=False, index=True),
)

outbox = outbox_table(metadata)
