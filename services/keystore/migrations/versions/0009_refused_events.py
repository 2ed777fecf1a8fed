"""Events in the outbox that the audit log does not take."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Adds when they were set aside, and why."""
    op.add_column("outbox", sa.Column("refused_us", sa.BigInteger))
    op.add_column("outbox", sa.Column("refused_reason", sa.String(64)))
