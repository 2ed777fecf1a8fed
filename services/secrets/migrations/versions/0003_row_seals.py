"""Seals of rows, and what binds a version's row to its secret's. The service fills them in when it first starts."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_SEALED = ("secrets", "versions", "requests", "rotations", "attempts", "changes")


def upgrade() -> None:
    """Adds the columns."""
    for table in _SEALED:
        op.add_column(table, sa.Column("seal", sa.LargeBinary))
    op.add_column("secrets", sa.Column("standing", sa.Text, nullable=False, server_default="{}"))
    op.add_column("versions", sa.Column("revision", sa.Integer, nullable=False, server_default="1"))
