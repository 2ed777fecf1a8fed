"""Deletion, targets, rotation policies, rotations with their attempts, and the changes that watchers are told."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the columns and creates the tables."""
    for column in (
        sa.Column("delete_us", sa.BigInteger),
        sa.Column("target", sa.LargeBinary, nullable=False, server_default=sa.text("''")),
        sa.Column("password_rule", sa.LargeBinary, nullable=False, server_default=sa.text("''")),
        sa.Column("rotation_policy", sa.LargeBinary, nullable=False, server_default=sa.text("''")),
        sa.Column("master_id", sa.String(63), nullable=False, server_default=""),
        sa.Column("grace_period_s", sa.Integer, nullable=False, server_default="3600"),
        sa.Column("rotation_count", sa.Integer, nullable=False, server_default="0"),
        sa.Column("active_rotation", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_rotate_us", sa.BigInteger),
        sa.Column("last_rotate_us", sa.BigInteger),
    ):
        op.add_column("secrets", column)
    op.create_index("ix_secrets_delete_us", "secrets", ["delete_us"])
    op.create_index("ix_secrets_next_rotate_us", "secrets", ["next_rotate_us"])
    op.create_index("secrets_by_master", "secrets", ["account", "master_id"])
    op.create_table(
        "rotations",
        sa.Column("account", sa.String(63)),
        sa.Column("secret_id", sa.String(63)),
        sa.Column("number", sa.Integer, autoincrement=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("trigger", sa.Integer, nullable=False),
        sa.Column("requester", sa.String(255), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("previous_version", sa.Integer, nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("attempt_count", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("incurable_failures", sa.Integer, nullable=False),
        sa.Column("fencing_token", sa.BigInteger, nullable=False),
        sa.Column("due_us", sa.BigInteger, nullable=False),
        sa.Column("started_us", sa.BigInteger, nullable=False),
        sa.Column("next_attempt_us", sa.BigInteger),
        sa.Column("promoted_us", sa.BigInteger),
        sa.Column("ended_us", sa.BigInteger),
        sa.PrimaryKeyConstraint("account", "secret_id", "number"),
        sa.ForeignKeyConstraint(["account", "secret_id"], ["secrets.account", "secrets.secret_id"]),
    )
    op.create_index("ix_rotations_next_attempt_us", "rotations", ["next_attempt_us"])
    op.create_index("ix_rotations_ended_us", "rotations", ["ended_us"])
    op.create_table(
        "attempts",
        sa.Column("account", sa.String(63)),
        sa.Column("secret_id", sa.String(63)),
        sa.Column("rotation", sa.Integer, autoincrement=False),
        sa.Column("ordinal", sa.Integer, autoincrement=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("started_us", sa.BigInteger, nullable=False),
        sa.Column("ended_us", sa.BigInteger),
        sa.Column("error_reason", sa.String(63), nullable=False),
        sa.Column("error_detail", sa.Text, nullable=False),
        sa.Column("instance", sa.String(255), nullable=False),
        sa.Column("fencing_token", sa.BigInteger, nullable=False),
        sa.Column("trace_id", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("account", "secret_id", "rotation", "ordinal"),
        sa.ForeignKeyConstraint(
            ["account", "secret_id", "rotation"],
            ["rotations.account", "rotations.secret_id", "rotations.number"],
        ),
    )
    revisions = op.create_table(
        "revision",
        sa.Column("row_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(revisions, [{"row_id": 1, "revision": 0}])
    op.create_table(
        "changes",
        sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("account", sa.String(63), nullable=False),
        sa.Column("secret_id", sa.String(63), nullable=False),
        sa.Column("kind", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("stages", sa.Text, nullable=False),
        sa.Column("changed_us", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_changes_changed_us", "changes", ["changed_us"])
