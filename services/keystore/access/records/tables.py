"""Tables of accounts, principals, policies, grants, credentials and quotas. Secrets are here as hashes alone."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from services.keystore.store.tables import metadata
from services.runtime.storage.row_seals import ADDED, UNSEALED, seal_column

# Every row's `revision` is that of its last change: its etag.

accounts = Table(
    "accounts",
    metadata,
    Column("account", String(63), primary_key=True),
    Column("display_name", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    # Of the seals of all rows that decide over the account's principals, and the revision as of which it is: a row more
    # or less, or an older one, is noticed.
    Column("contents", LargeBinary(32)),
    Column("contents_revision", BigInteger),
    seal_column(),
)

# A principal that was deleted stays until it has no grants any more; its name then goes to `ended_names`.
principals = Table(
    "principals",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("account", String(63), nullable=False, index=True),
    Column("kind", Integer, nullable=False),
    Column("description", Text, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("roles", Text, nullable=False),
    Column("tags", Text, nullable=False),
    # Of roles alone.
    Column("trust_policy", Text),
    Column("max_session_s", Integer),
    Column("sessions_valid_after_us", BigInteger),
    # JSON of when each would have ended, by its id; empty for none.
    Column("ended_sessions", Text, nullable=False, server_default="", info={ADDED: True}),
    Column("revision", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("deleted_us", BigInteger),
    seal_column(),
)

# The names of principals that ended, which are never used again (records/ended_names.py).
ended_names = Table(
    "ended_names",
    metadata,
    Column("account", String(63)),
    Column("bucket", Integer, autoincrement=False),
    Column("names", LargeBinary, nullable=False),
    seal_column(),
    PrimaryKeyConstraint("account", "bucket"),
)

# A SPIFFE id stands for one principal, which the primary key holds true.
identities = Table(
    "identities",
    metadata,
    Column("spiffe_id", String(2048), primary_key=True),
    Column("principal", String(255), nullable=False, index=True),
    seal_column(),
    ForeignKeyConstraint(["principal"], ["principals.name"]),
)

# One that stands for another account's principal stands for nobody here, until it is free and bound again: whether it
# does is not for this account to learn.
waiting_identities = Table(
    "waiting_identities",
    metadata,
    Column("account", String(63)),
    Column("spiffe_id", String(2048)),
    Column("principal", String(255), nullable=False, index=True),
    seal_column(),
    PrimaryKeyConstraint("account", "spiffe_id"),
    ForeignKeyConstraint(["principal"], ["principals.name"]),
)

# A SPIFFE id, or with `/` at its end every one below it, that the mesh's administrators gave to an account.
given_spiffe_ids = Table(
    "given_spiffe_ids",
    metadata,
    Column("prefix", String(2048), primary_key=True),
    Column("account", String(63), nullable=False, index=True),
    seal_column(),
)

# A provider's subject stands for one principal, too.
oidc_bindings = Table(
    "oidc_bindings",
    metadata,
    Column("provider", String(255)),
    Column("subject", String(255)),
    Column("principal", String(255), nullable=False, index=True),
    Column("required_claims", Text, nullable=False),
    seal_column(),
    PrimaryKeyConstraint("provider", "subject"),
    ForeignKeyConstraint(["principal"], ["principals.name"]),
)

policies = Table(
    "policies",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("account", String(63), nullable=False, index=True),
    Column("kind", Integer, nullable=False),
    Column("cedar", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    seal_column(),
)

# `target` is a principal, an account, a key or a secret, by name.
policy_attachments = Table(
    "policy_attachments",
    metadata,
    Column("policy", String(255)),
    Column("target", String(255)),
    seal_column(),
    PrimaryKeyConstraint("policy", "target"),
    ForeignKeyConstraint(["policy"], ["policies.name"]),
    Index("policy_attachments_by_target", "target"),
)

grants = Table(
    "grants",
    metadata,
    Column("account", String(63)),
    Column("grant_id", String(63)),
    Column("key_uid", LargeBinary(16), nullable=False),
    Column("key_id", String(63), nullable=False),
    Column("grantee", String(255), nullable=False),
    Column("operations", Text, nullable=False),
    Column("constraint_kind", Integer, nullable=False),
    Column("constraint_pairs", Text, nullable=False),
    Column("retiring_principal", String(255), nullable=False),
    Column("description", Text, nullable=False),
    Column("creator", String(255), nullable=False),
    Column("expires_us", BigInteger),
    Column("created_us", BigInteger, nullable=False),
    seal_column(),
    PrimaryKeyConstraint("account", "grant_id"),
    Index("grants_by_key", "key_uid", "grant_id"),
    Index("grants_by_key_and_grantee", "key_uid", "grantee"),
    Index("grants_by_grantee", "grantee", "account", "grant_id"),
    Index("grants_by_retiring_principal", "retiring_principal", "account", "grant_id"),
    Index("grants_by_expires_us", "expires_us"),
)

# What a decision looks up: one row for each operation of a grant, under what its constraint must find in the encryption
# context (`grants.lookup`), so that it costs the same among one grant and among 500,000.
grant_operations = Table(
    "grant_operations",
    metadata,
    Column("key_uid", LargeBinary(16)),
    Column("grantee", String(255)),
    Column("operation", String(64)),
    Column("lookup", LargeBinary(32)),
    Column("grant_id", String(63)),
    PrimaryKeyConstraint("key_uid", "grantee", "operation", "lookup", "grant_id"),
    Index("grant_operations_by_grant", "key_uid", "grant_id"),
)

grant_counts = Table(
    "grant_counts",
    metadata,
    Column("key_uid", LargeBinary(16), primary_key=True),
    Column("grants", BigInteger, nullable=False),
)

# A client key that was deleted stays for as long as a session that it began can last.
client_keys = Table(
    "client_keys",
    metadata,
    Column("account", String(63)),
    Column("client_key_id", String(63)),
    Column("principal", String(255), nullable=False, index=True),
    Column("secret_sha256", LargeBinary(32), nullable=False),
    Column("description", Text, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("used_us", BigInteger, info={UNSEALED: True}),
    Column("deleted_us", BigInteger, index=True),
    Column("rotated_by", String(255), nullable=False, server_default=""),
    seal_column(),
    PrimaryKeyConstraint("account", "client_key_id"),
)

oidc_providers = Table(
    "oidc_providers",
    metadata,
    Column("account", String(63)),
    Column("oidc_provider_id", String(63)),
    Column("issuer", String(2048), nullable=False),
    Column("audiences", Text, nullable=False),
    Column("jwks_uri", Text, nullable=False),
    Column("ca_certificates", Text, nullable=False),
    Column("static_jwks", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("fetched_us", BigInteger, info={UNSEALED: True}),
    Column("fetch_error", Text, nullable=False, info={UNSEALED: True}),
    Column("revision", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    seal_column(),
    PrimaryKeyConstraint("account", "oidc_provider_id"),
    UniqueConstraint("account", "issuer"),
)

# `target` is an account or a principal, by name.
quotas = Table(
    "quotas",
    metadata,
    Column("target", String(255), primary_key=True),
    Column("account", String(63), nullable=False, index=True),
    Column("requests_per_second", Float),
    Column("burst", BigInteger, nullable=False),
    Column("default_principal_requests_per_second", Float),
    Column("revision", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
)

token_keys = Table(
    "token_keys",
    metadata,
    Column("key_id", String(63), primary_key=True),
    Column("public_key", LargeBinary(32), nullable=False),
    Column("not_before_us", BigInteger, nullable=False),
    Column("not_after_us", BigInteger, nullable=False, index=True),
    seal_column(),
)
