"""The log, its sealing keys, and the probe."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "leaves",
        sa.Column(
            "leaf_index",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("event_id", sa.LargeBinary(16), nullable=False, unique=True),
        sa.Column("account", sa.String(63), nullable=False),
        sa.Column("time_us", sa.BigInteger, nullable=False),
        sa.Column("leaf", sa.LargeBinary, nullable=False),
    )
    op.create_index("leaves_by_time", "leaves", ["account", "time_us", "leaf_index"])
    op.create_table(
        "sealing_roots",
        sa.Column("root_id", sa.LargeBinary(16), primary_key=True),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "sealing_keys",
        sa.Column("key_id", sa.LargeBinary(16), primary_key=True),
        sa.Column("account", sa.String(63), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("root_id", sa.LargeBinary(16), nullable=False),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
    )
    op.create_index("sealing_keys_by_account", "sealing_keys", ["account", "created_us"])
    op.create_table(
        "probes",
        sa.Column("probe_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("probed_us", sa.BigInteger, nullable=False),
    )
