"""Whether a secret is, or was, the master of another: a secret's own row says so."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Adds the column; secrets that are masters already are found by those that name them."""
    op.add_column("secrets", sa.Column("lent", sa.Boolean, nullable=False, server_default=sa.false()))
