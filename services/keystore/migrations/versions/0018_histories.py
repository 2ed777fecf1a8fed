"""The number of the last change says which of the database's histories it is of."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Adds the column; whoever looks first fills it."""
    op.add_column("revision", sa.Column("history", sa.String(63)))
