"""Where a secret's values may be sent, and who named its target."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds the columns. What was bound before is bound on, by nobody that is known."""
    empty = sa.text("''")
    op.add_column("secrets", sa.Column("allowed_destinations", sa.Text, nullable=False, server_default=""))
    op.add_column("secrets", sa.Column("target_binding", sa.LargeBinary, nullable=False, server_default=empty))
