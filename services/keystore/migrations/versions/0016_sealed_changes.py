"""Changes, by which caches learn what to forget, are sealed."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Adds the column. Whoever has not yet heard of a change from before starts over."""
    op.add_column("changes", sa.Column("seal", sa.LargeBinary))
