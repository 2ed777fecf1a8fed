"""Client keys that a secret's rotation made."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Adds which secret it was."""
    op.add_column("client_keys", sa.Column("rotated_by", sa.String(255), nullable=False, server_default=""))
