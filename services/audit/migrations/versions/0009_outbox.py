"""The events of what audit itself changes, beside the change until they are in the log."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Nothing waits yet."""
    op.create_table(
        "outbox",
        sa.Column("event_id", sa.String(36), primary_key=True),
        sa.Column("event", sa.LargeBinary, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("refused_us", sa.BigInteger),
        sa.Column("refused_reason", sa.String(64)),
        if_not_exists=True,
    )
    op.create_index("ix_outbox_created_us", "outbox", ["created_us"], if_not_exists=True)
