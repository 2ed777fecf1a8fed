"""Seals of what decides how long events can be read, and of what there is of it in all. The service fills them in when
the log is new."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Adds the columns and the table."""
    for table in ("retention_policies", "legal_holds"):
        op.add_column(table, sa.Column("seal", sa.LargeBinary))
    op.create_table(
        "sealed_sets",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("seal", sa.LargeBinary),
    )
