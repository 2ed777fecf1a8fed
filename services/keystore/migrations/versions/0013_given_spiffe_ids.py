"""SPIFFE ids, and what is below prefixes of them, that the mesh's administrators gave to accounts."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Creates the table."""
    op.create_table(
        "given_spiffe_ids",
        sa.Column("prefix", sa.String(2048), primary_key=True),
        sa.Column("account", sa.String(63), nullable=False, index=True),
        sa.Column("seal", sa.LargeBinary),
    )
