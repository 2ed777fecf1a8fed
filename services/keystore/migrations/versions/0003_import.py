"""Imported key material."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Adds the columns, and the index that finds what expires."""
    op.add_column("keys", sa.Column("expires_us", sa.BigInteger))
    op.add_column("key_versions", sa.Column("imported_us", sa.BigInteger))
    op.add_column("key_versions", sa.Column("expires_us", sa.BigInteger))
    op.add_column("key_versions", sa.Column("fingerprint", sa.LargeBinary(128)))
    op.create_index("key_versions_by_expires_us", "key_versions", ["expires_us"])
