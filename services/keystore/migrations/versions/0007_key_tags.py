"""Tags by which keys are found."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

# Each dialect has a function of its own that makes rows of a JSON object.
_FILL = {
    "sqlite": "INSERT INTO key_tags SELECT account, pair.key, pair.value, key_id FROM keys, json_each(tags) AS pair",
    "postgresql": "INSERT INTO key_tags SELECT account, pair.key, pair.value, key_id "
    "FROM keys, json_each_text(tags::json) AS pair",
}


def upgrade() -> None:
    """Creates the table, and fills it from what keys say of their tags."""
    op.create_table(
        "key_tags",
        sa.Column("account", sa.String(63)),
        sa.Column("tag_key", sa.String(128)),
        sa.Column("tag_value", sa.String(256)),
        sa.Column("key_id", sa.String(63)),
        sa.PrimaryKeyConstraint("account", "tag_key", "tag_value", "key_id"),
        sa.ForeignKeyConstraint(["account", "key_id"], ["keys.account", "keys.key_id"]),
    )
    op.create_index("key_tags_by_key", "key_tags", ["account", "key_id"])
    op.execute(_FILL[op.get_bind().dialect.name])
