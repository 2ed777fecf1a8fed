"""What other services destroyed for good, whatever their own databases say."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Nothing is known yet."""
    op.create_table(
        "destroyed_items",
        sa.Column("service", sa.String(255)),
        sa.Column("item_id", sa.LargeBinary(32)),
        sa.PrimaryKeyConstraint("service", "item_id"),
        if_not_exists=True,
    )
