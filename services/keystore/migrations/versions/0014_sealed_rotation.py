"""The rotation of the root key is sealed, and knows when its pass over all blobs began."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Adds the columns."""
    op.add_column("root_rotation", sa.Column("pass_us", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("root_rotation", sa.Column("seal", sa.LargeBinary))
