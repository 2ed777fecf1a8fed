"""Messages that a version has encrypted."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds the columns, and the index that finds versions near their limit."""
    op.add_column("key_versions", sa.Column("message_count", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("key_versions", sa.Column("retired_us", sa.BigInteger))
    op.create_index("key_versions_by_message_count", "key_versions", ["message_count"])
