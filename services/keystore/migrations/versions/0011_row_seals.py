"""Seals of rows, and what binds versions to their keys and an account's records to the account. The service fills them
in when it first starts."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_SEALED = (
    *("keys", "key_versions", "aliases", "deleted_aliases", "requests"),
    *("accounts", "principals", "identities", "waiting_identities", "oidc_bindings"),
    *("policies", "policy_attachments", "grants", "client_keys", "oidc_providers", "token_keys"),
)


def upgrade() -> None:
    """Adds the columns."""
    for table in _SEALED:
        op.add_column(table, sa.Column("seal", sa.LargeBinary))
    op.add_column("keys", sa.Column("versions_digest", sa.LargeBinary(32)))
    op.add_column("accounts", sa.Column("contents", sa.LargeBinary(32)))
    op.add_column("accounts", sa.Column("contents_revision", sa.BigInteger))
