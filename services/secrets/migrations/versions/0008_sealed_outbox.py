"""Events in the outbox are sealed, since they are sent with the service's authority."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Adds the column. What waits already is sealed as it is when the service starts for the first time."""
    op.add_column("outbox", sa.Column("seal", sa.LargeBinary))
