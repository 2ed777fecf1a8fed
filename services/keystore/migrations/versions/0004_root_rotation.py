"""Rotation of the root key."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Creates the tables, and the index that finds blobs by root version."""
    op.create_table(
        "root_versions",
        sa.Column("root_version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("retired_us", sa.BigInteger),
    )
    op.create_table(
        "root_rotation",
        sa.Column("row_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("target_version", sa.Integer, nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("total_count", sa.BigInteger, nullable=False),
        sa.Column("done_count", sa.BigInteger, nullable=False),
        sa.Column("failed_count", sa.BigInteger, nullable=False),
        sa.Column("error_reason", sa.String(63), nullable=False),
        sa.Column("error_detail", sa.Text, nullable=False),
        sa.Column("cursor_uid", sa.LargeBinary(16), nullable=False),
        sa.Column("cursor_version", sa.Integer, nullable=False),
        sa.Column("started_us", sa.BigInteger, nullable=False),
        sa.Column("progressed_us", sa.BigInteger, nullable=False),
        sa.Column("ended_us", sa.BigInteger),
    )
    op.create_index("key_versions_by_root_version", "key_versions", ["root_version", "uid", "version"])
