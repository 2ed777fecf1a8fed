"""Of principals that ended long ago nothing is kept but that their names are taken."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Adds the table; rows of principals go over as others of their account are made and deleted."""
    op.create_table(
        "ended_names",
        sa.Column("account", sa.String(63)),
        sa.Column("bucket", sa.Integer),
        sa.Column("names", sa.LargeBinary, nullable=False),
        sa.Column("seal", sa.LargeBinary),
        sa.PrimaryKeyConstraint("account", "bucket"),
    )
