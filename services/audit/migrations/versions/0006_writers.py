"""Who writes the log, beside where it ends: what keeps one that was overtaken from writing on.

The row of probes is gone: a probe renews the writer's own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """No writer is known yet."""
    op.add_column("heads", sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("heads", sa.Column("beat_us", sa.BigInteger, nullable=False, server_default="0"))
    op.drop_table("probes")
