"""What one account must not learn, or take, of another: keys of deleted aliases, and SPIFFE ids bound elsewhere."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Creates both tables."""
    op.create_table(
        "deleted_aliases",
        sa.Column("account", sa.String(63)),
        sa.Column("alias_id", sa.String(63)),
        sa.Column("key_uid", sa.LargeBinary(16), nullable=False),
        sa.PrimaryKeyConstraint("account", "alias_id"),
        sa.ForeignKeyConstraint(["key_uid"], ["keys.uid"]),
    )
    op.create_table(
        "waiting_identities",
        sa.Column("account", sa.String(63)),
        sa.Column("spiffe_id", sa.String(2048)),
        sa.Column("principal", sa.String(255), nullable=False, index=True),
        sa.PrimaryKeyConstraint("account", "spiffe_id"),
        sa.ForeignKeyConstraint(["principal"], ["principals.name"]),
    )
