"""What calls with a request id made, by name, as keystore keeps it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Begins the table anew: the seals of its rows cover the columns that go, and all were forgotten after a day."""
    op.drop_table("requests")
    op.create_table(
        "requests",
        sa.Column("account", sa.String(63), primary_key=True),
        sa.Column("request_id", sa.String(36), primary_key=True),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("resource", sa.String(255), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("seal", sa.LargeBinary),
    )
    op.create_index("ix_requests_created_us", "requests", ["created_us"])
