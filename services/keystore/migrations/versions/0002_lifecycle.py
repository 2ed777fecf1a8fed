"""Rotation policies, planned deletions, destroyed versions."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the columns, and the indexes that find what falls due."""
    op.add_column("keys", sa.Column("rotation_period_s", sa.BigInteger))
    op.add_column("keys", sa.Column("next_rotate_us", sa.BigInteger))
    op.add_column("keys", sa.Column("delete_us", sa.BigInteger))
    op.add_column("keys", sa.Column("destroyed_us", sa.BigInteger))
    op.add_column("key_versions", sa.Column("destroyed_us", sa.BigInteger))
    op.create_index("keys_by_delete_us", "keys", ["delete_us"])
    op.create_index("keys_by_next_rotate_us", "keys", ["next_rotate_us"])
