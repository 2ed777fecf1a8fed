"""Accounts, principals, policies; keys, versions, aliases; the change feed; requests, and the outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "revision",
        sa.Column("row_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "changes",
        sa.Column(
            "revision", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False
        ),
        sa.Column("kind", sa.Integer, nullable=False),
        sa.Column("resource", sa.String(255), nullable=False),
        sa.Column("key_uid", sa.LargeBinary(16), nullable=False),
        sa.Column("account", sa.String(63), nullable=False),
    )
    op.create_table(
        "accounts",
        sa.Column("account", sa.String(63), primary_key=True),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "principals",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("account", sa.String(63), nullable=False, index=True),
        sa.Column("kind", sa.Integer, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("roles", sa.Text, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("sessions_valid_after_us", sa.BigInteger),
        sa.Column("created_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "identities",
        sa.Column("spiffe_id", sa.String(2048), primary_key=True),
        sa.Column("principal", sa.String(255), nullable=False),
        sa.ForeignKeyConstraint(["principal"], ["principals.name"]),
    )
    op.create_table(
        "policies",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("account", sa.String(63), nullable=False, index=True),
        sa.Column("cedar", sa.Text, nullable=False),
        sa.Column("attached_to", sa.Text),
        sa.Column("created_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "token_keys",
        sa.Column("key_id", sa.String(63), primary_key=True),
        sa.Column("public_key", sa.LargeBinary(32), nullable=False),
        sa.Column("not_before_us", sa.BigInteger, nullable=False),
        sa.Column("not_after_us", sa.BigInteger, nullable=False, index=True),
    )
    op.create_table(
        "keys",
        sa.Column("account", sa.String(63)),
        sa.Column("key_id", sa.String(63)),
        sa.Column("uid", sa.LargeBinary(16), nullable=False, unique=True),
        sa.Column("spec", sa.Integer, nullable=False),
        sa.Column("usage", sa.Integer, nullable=False),
        sa.Column("protection_level", sa.Integer, nullable=False),
        sa.Column("origin", sa.Integer, nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("deletion_protection", sa.Boolean, nullable=False),
        sa.Column("primary_version", sa.Integer, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
        sa.Column("rotated_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("account", "key_id"),
    )
    op.create_table(
        "key_versions",
        sa.Column("uid", sa.LargeBinary(16)),
        sa.Column("version", sa.Integer, autoincrement=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("origin", sa.Integer, nullable=False),
        sa.Column("wrapped", sa.LargeBinary),
        sa.Column("public_key", sa.LargeBinary),
        sa.Column("root_version", sa.Integer, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("uid", "version"),
        sa.ForeignKeyConstraint(["uid"], ["keys.uid"]),
    )
    op.create_table(
        "aliases",
        sa.Column("account", sa.String(63)),
        sa.Column("alias_id", sa.String(63)),
        sa.Column("key_uid", sa.LargeBinary(16), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("account", "alias_id"),
        sa.ForeignKeyConstraint(["key_uid"], ["keys.uid"]),
        sa.Index("aliases_by_key", "key_uid"),
    )
    op.create_table(
        "requests",
        sa.Column("account", sa.String(63)),
        sa.Column("request_id", sa.String(36)),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("resource", sa.String(255), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False, index=True),
        sa.PrimaryKeyConstraint("account", "request_id"),
    )
    op.create_table(
        "outbox",
        sa.Column("event_id", sa.String(36), primary_key=True),
        sa.Column("event", sa.LargeBinary, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_outbox_created_us", "outbox", ["created_us"])
    op.execute("INSERT INTO revision (row_id, revision) VALUES (1, 0)")
