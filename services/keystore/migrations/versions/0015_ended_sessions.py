"""Sessions that were revoked one by one are kept with their principals until they would have ended."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Adds the column."""
    op.add_column("principals", sa.Column("ended_sessions", sa.Text, nullable=False, server_default=""))
