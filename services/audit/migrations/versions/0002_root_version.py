"""The version of the root key that a sealing root is wrapped under."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the column. Until now there was one version of the root key."""
    op.add_column("sealing_roots", sa.Column("root_version", sa.Integer, nullable=False, server_default="1"))
