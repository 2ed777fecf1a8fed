"""Levels of the index above the one that there was. They are made of it by the service, by and by."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Moves the blocks there are to level 0."""
    big = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "new_index_blocks",
        sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("block", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("node", big, primary_key=True, autoincrement=False),
        sa.Column("pairs", sa.LargeBinary, nullable=False),
    )
    op.execute(
        "INSERT INTO new_index_blocks (level, block, node, pairs) SELECT 0, block, node, pairs FROM index_blocks"
    )
    op.drop_table("index_blocks")
    op.rename_table("new_index_blocks", "index_blocks")
