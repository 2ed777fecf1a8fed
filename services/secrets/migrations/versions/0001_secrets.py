"""Secrets, versions, stages, requests, and the outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "secrets",
        sa.Column("account", sa.String(63), primary_key=True),
        sa.Column("secret_id", sa.String(63), primary_key=True),
        sa.Column("type", sa.Integer, nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("key_name", sa.String(255), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("retained_versions", sa.Integer, nullable=False),
        sa.Column("latest_version", sa.Integer, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "versions",
        sa.Column("account", sa.String(63)),
        sa.Column("secret_id", sa.String(63)),
        sa.Column("version", sa.Integer, autoincrement=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("origin", sa.Integer, nullable=False),
        sa.Column("key_version", sa.String(255), nullable=False),
        sa.Column("format", sa.Integer, nullable=False),
        sa.Column("value_size", sa.Integer, nullable=False),
        sa.Column("data_key", sa.LargeBinary),
        sa.Column("sealed", sa.LargeBinary),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("disabled_us", sa.BigInteger),
        sa.Column("destroyed_us", sa.BigInteger),
        sa.PrimaryKeyConstraint("account", "secret_id", "version"),
        sa.ForeignKeyConstraint(["account", "secret_id"], ["secrets.account", "secrets.secret_id"]),
    )
    op.create_table(
        "stages",
        sa.Column("account", sa.String(63)),
        sa.Column("secret_id", sa.String(63)),
        sa.Column("stage", sa.String(63)),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("account", "secret_id", "stage"),
        sa.ForeignKeyConstraint(
            ["account", "secret_id", "version"],
            ["versions.account", "versions.secret_id", "versions.version"],
        ),
    )
    op.create_table(
        "requests",
        sa.Column("account", sa.String(63), primary_key=True),
        sa.Column("request_id", sa.String(36), primary_key=True),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("secret_id", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_requests_created_us", "requests", ["created_us"])
    op.create_table(
        "outbox",
        sa.Column("event_id", sa.String(36), primary_key=True),
        sa.Column("event", sa.LargeBinary, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_outbox_created_us", "outbox", ["created_us"])
