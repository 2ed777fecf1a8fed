"""Versions that wait to be destroyed are found by their time."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Creates the index."""
    op.create_index("key_versions_by_destroyed_us", "key_versions", ["destroyed_us"])
