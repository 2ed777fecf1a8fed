"""Accounts, principals and policies in full; grants, client keys, OIDC providers and quotas."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_IDENTITY = 1


def upgrade() -> None:
    """Adds what the tables lack, moves attachments of policies to a table of their own, and creates the new ones."""
    _extend()
    _move_attachments()
    _create_grants()
    _create_credentials()
    op.create_table(
        "quotas",
        sa.Column("target", sa.String(255), primary_key=True),
        sa.Column("account", sa.String(63), nullable=False, index=True),
        sa.Column("requests_per_second", sa.Float),
        sa.Column("burst", sa.BigInteger, nullable=False),
        sa.Column("default_principal_requests_per_second", sa.Float),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
    )


def _extend() -> None:
    added: dict[str, list[sa.Column[Any]]] = {
        "accounts": [
            _text("display_name"),
            _text("tags", "{}"),
        ],
        "principals": [
            _text("description"),
            sa.Column("trust_policy", sa.Text),
            sa.Column("max_session_s", sa.Integer),
            sa.Column("deleted_us", sa.BigInteger),
        ],
        "policies": [
            sa.Column("kind", sa.Integer, nullable=False, server_default=str(_IDENTITY)),
            _text("description"),
        ],
    }
    for table, columns in added.items():
        for column in columns:
            op.add_column(table, column)
        op.add_column(table, sa.Column("revision", sa.BigInteger, nullable=False, server_default="0"))
        op.add_column(table, sa.Column("updated_us", sa.BigInteger, nullable=False, server_default="0"))
        op.execute(f"UPDATE {table} SET updated_us = created_us")  # noqa: S608  # names of our own
    op.create_index("ix_identities_principal", "identities", ["principal"])


def _text(name: str, default: str = "") -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default=default)


def _move_attachments() -> None:
    op.create_table(
        "policy_attachments",
        sa.Column("policy", sa.String(255)),
        sa.Column("target", sa.String(255)),
        sa.PrimaryKeyConstraint("policy", "target"),
        sa.ForeignKeyConstraint(["policy"], ["policies.name"]),
        sa.Index("policy_attachments_by_target", "target"),
    )
    policies = sa.table("policies", sa.column("name"), sa.column("account"), sa.column("attached_to"))
    attachments = sa.table("policy_attachments", sa.column("policy"), sa.column("target"))
    connection = op.get_bind()
    for name, account, attached_to in connection.execute(sa.select(policies)).all():
        # None: to nothing; an empty list: to the whole account.
        targets = [] if attached_to is None else json.loads(attached_to) or [f"accounts/{account}"]
        for target in targets:
            connection.execute(attachments.insert().values(policy=name, target=target))
    op.drop_column("policies", "attached_to")


def _create_grants() -> None:
    op.create_table(
        "grants",
        sa.Column("account", sa.String(63)),
        sa.Column("grant_id", sa.String(63)),
        sa.Column("key_uid", sa.LargeBinary(16), nullable=False),
        sa.Column("key_id", sa.String(63), nullable=False),
        sa.Column("grantee", sa.String(255), nullable=False),
        sa.Column("operations", sa.Text, nullable=False),
        sa.Column("constraint_kind", sa.Integer, nullable=False),
        sa.Column("constraint_pairs", sa.Text, nullable=False),
        sa.Column("retiring_principal", sa.String(255), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("creator", sa.String(255), nullable=False),
        sa.Column("expires_us", sa.BigInteger),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("account", "grant_id"),
        sa.Index("grants_by_key", "key_uid", "grant_id"),
        sa.Index("grants_by_key_and_grantee", "key_uid", "grantee"),
        sa.Index("grants_by_grantee", "grantee", "account", "grant_id"),
        sa.Index("grants_by_retiring_principal", "retiring_principal", "account", "grant_id"),
        sa.Index("grants_by_expires_us", "expires_us"),
    )
    op.create_table(
        "grant_operations",
        sa.Column("key_uid", sa.LargeBinary(16)),
        sa.Column("grantee", sa.String(255)),
        sa.Column("operation", sa.String(64)),
        sa.Column("lookup", sa.LargeBinary(32)),
        sa.Column("grant_id", sa.String(63)),
        sa.PrimaryKeyConstraint("key_uid", "grantee", "operation", "lookup", "grant_id"),
        sa.Index("grant_operations_by_grant", "key_uid", "grant_id"),
    )
    op.create_table(
        "grant_counts",
        sa.Column("key_uid", sa.LargeBinary(16), primary_key=True),
        sa.Column("grants", sa.BigInteger, nullable=False),
    )


def _create_credentials() -> None:
    op.create_table(
        "oidc_bindings",
        sa.Column("provider", sa.String(255)),
        sa.Column("subject", sa.String(255)),
        sa.Column("principal", sa.String(255), nullable=False, index=True),
        sa.Column("required_claims", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("provider", "subject"),
        sa.ForeignKeyConstraint(["principal"], ["principals.name"]),
    )
    op.create_table(
        "client_keys",
        sa.Column("account", sa.String(63)),
        sa.Column("client_key_id", sa.String(63)),
        sa.Column("principal", sa.String(255), nullable=False, index=True),
        sa.Column("secret_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("expires_us", sa.BigInteger, nullable=False),
        sa.Column("used_us", sa.BigInteger),
        sa.Column("deleted_us", sa.BigInteger, index=True),
        sa.PrimaryKeyConstraint("account", "client_key_id"),
    )
    op.create_table(
        "oidc_providers",
        sa.Column("account", sa.String(63)),
        sa.Column("oidc_provider_id", sa.String(63)),
        sa.Column("issuer", sa.String(2048), nullable=False),
        sa.Column("audiences", sa.Text, nullable=False),
        sa.Column("jwks_uri", sa.Text, nullable=False),
        sa.Column("ca_certificates", sa.Text, nullable=False),
        sa.Column("static_jwks", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("fetched_us", sa.BigInteger),
        sa.Column("fetch_error", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("account", "oidc_provider_id"),
        sa.UniqueConstraint("account", "issuer"),
    )
