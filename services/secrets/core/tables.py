"""The secrets service's tables. No column holds a value, or a digest that a value could be guessed from.

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
from services.runtime.storage.row_seals import ADDED, UNSEALED, seal_column

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
    Column("delete_us", BigInteger, index=True),
    # Serialised messages of the contract; empty without one.
    Column("target", LargeBinary, nullable=False, default=b""),
    Column("password_rule", LargeBinary, nullable=False, default=b""),
    Column("rotation_policy", LargeBinary, nullable=False, default=b""),
    # The id of the target's master secret; empty without one.
    Column("master_id", String(63), nullable=False, default=""),
    Column("grace_period_s", Integer, nullable=False, default=3600),
    Column("rotation_count", Integer, nullable=False, default=0),
    # The number of the rotation that is not ended; 0 without one. One column, so at most one.
    Column("active_rotation", Integer, nullable=False, default=0),
    # Says when, and nothing else: whoever writes here could as well take the row away.
    Column("next_rotate_us", BigInteger, index=True, info={UNSEALED: True}),
    Column("last_rotate_us", BigInteger),
    # The versions that have a value, and the revision that each one's row is at, as JSON: an older row is refused. The
    # secret's seal covers its stages as well.
    Column("standing", Text, nullable=False, default="{}"),
    # Where its values may be sent, as JSON, empty for anywhere; and who named its target, a serialised message.
    Column("allowed_destinations", Text, nullable=False, default="", info={ADDED: True}),
    Column("target_binding", LargeBinary, nullable=False, default=b"", info={ADDED: True}),
    # Whether it is, or was, the master of another.
    Column("lent", Boolean, nullable=False, default=False, info={ADDED: True}),
    seal_column(),
    Index("secrets_by_master", "account", "master_id"),
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
    # Opens under no other data key and for no other version.
    Column("sealed", LargeBinary, info={UNSEALED: True}),
    Column("created_us", BigInteger, nullable=False),
    Column("disabled_us", BigInteger),
    Column("destroyed_us", BigInteger),
    Column("revision", Integer, nullable=False, default=1),
    seal_column(),
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

requests = requests_table(metadata, seal_column())

rotations = Table(
    "rotations",
    metadata,
    Column("account", String(63)),
    Column("secret_id", String(63)),
    Column("number", Integer, autoincrement=False),
    Column("state", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("trigger", Integer, nullable=False),
    Column("requester", String(255), nullable=False),
    Column("version", Integer, nullable=False),
    Column("previous_version", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("attempt_count", Integer, nullable=False),
    # Tries of the step that count towards FAILED, and those among them that no later try would cure.
    Column("failures", Integer, nullable=False),
    Column("incurable_failures", Integer, nullable=False),
    # The token of the lease of whoever works on it: a write under a lesser one is refused.
    Column("fencing_token", BigInteger, nullable=False),
    Column("due_us", BigInteger, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    # When it is worked on next; null when it waits for a person or is ended.
    Column("next_attempt_us", BigInteger, index=True),
    # When Current moved; null before.
    Column("promoted_us", BigInteger),
    # Says from when it may be forgotten; whether it is ended is the state's to say.
    Column("ended_us", BigInteger, index=True, info={UNSEALED: True}),
    seal_column(),
    PrimaryKeyConstraint("account", "secret_id", "number"),
    ForeignKeyConstraint(["account", "secret_id"], ["secrets.account", "secrets.secret_id"]),
)

attempts = Table(
    "attempts",
    metadata,
    Column("account", String(63)),
    Column("secret_id", String(63)),
    Column("rotation", Integer, autoincrement=False),
    # Counted through the whole rotation.
    Column("ordinal", Integer, autoincrement=False),
    Column("step", Integer, nullable=False),
    # Counted in the step.
    Column("number", Integer, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("error_reason", String(63), nullable=False),
    Column("error_detail", Text, nullable=False),
    Column("instance", String(255), nullable=False),
    Column("fencing_token", BigInteger, nullable=False),
    Column("trace_id", String(32), nullable=False),
    seal_column(),
    PrimaryKeyConstraint("account", "secret_id", "rotation", "ordinal"),
    ForeignKeyConstraint(
        ["account", "secret_id", "rotation"], ["rotations.account", "rotations.secret_id", "rotations.number"]
    ),
)

# What watchers of secrets are told, in the order of one counter.
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
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("account", String(63), nullable=False),
    Column("secret_id", String(63), nullable=False),
    Column("kind", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    # The version at each stage after the change, as JSON.
    Column("stages", Text, nullable=False),
    Column("changed_us", BigInteger, nullable=False, index=True),
    seal_column(),
)

outbox = outbox_table(metadata, seal_column())
