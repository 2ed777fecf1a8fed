"""A new account: its administrator, the roles that it begins with, and their policies."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection

from services.keystore import changes
from services.keystore.access import store
from strongroom.access.v1.access_record_service_pb2 import PrincipalRecord
from strongroom.access.v1.policy_pb2 import POLICY_KIND_IDENTITY
from strongroom.access.v1.principal_pb2 import PRINCIPAL_KIND_ROLE, PRINCIPAL_KIND_USER
from strongroom.keystore.v1.key_record_service_pb2 import (
    CHANGE_KIND_ACCOUNT,
    CHANGE_KIND_POLICY,
    CHANGE_KIND_PRINCIPAL,
)

# Who administers does not read the audit log by that alone, and the other way about.
_POLICIES = {
    "administrator": """permit (principal, action, resource)
when {{ resource in Strongroom::Account::"accounts/{account}" }}
unless {{ action in Strongroom::Action::"audit" }};
""",
    "auditor": """permit (principal, action in Strongroom::Action::"audit", resource)
when {{ resource in Strongroom::Account::"accounts/{account}" }};
""",
}
# These roles are held all the time or not at all.
_ASSUMED_BY_NOBODY = """forbid (principal, action == Strongroom::Action::"access:AssumeRole", resource);
"""


def add(connection: Connection, account: str, administrator_id: str, spiffe_ids: Collection[str], now_us: int) -> str:
    """Adds an account; the name of its administrator is the answer."""
    revision = changes.note(connection, CHANGE_KIND_ACCOUNT, f"accounts/{account}", account)
    store.insert_account(connection, account, revision, now_us)
    roles = {role: f"accounts/{account}/roles/{role}" for role in _POLICIES}
    administrator = PrincipalRecord(
        name=f"accounts/{account}/users/{administrator_id}", kind=PRINCIPAL_KIND_USER, roles=roles.values()
    )
    for name in roles.values():
        _add_principal(
            connection, account, PrincipalRecord(name=name, kind=PRINCIPAL_KIND_ROLE), now_us, _ASSUMED_BY_NOBODY
        )
    _add_principal(connection, account, administrator, now_us)
    for spiffe_id in spiffe_ids:
        store.bind_identity(connection, spiffe_id, administrator.name)
    for role, text in _POLICIES.items():
        name = f"accounts/{account}/policies/{role}"
        revision = changes.note(connection, CHANGE_KIND_POLICY, name, account)
        cedar = text.format(account=account)
        store.insert_policy(connection, account, name, POLICY_KIND_IDENTITY, cedar, [roles[role]], revision, now_us)
    return administrator.name


def _add_principal(
    connection: Connection, account: str, added: PrincipalRecord, now_us: int, trust_policy: str | None = None
) -> None:
    revision = changes.note(connection, CHANGE_KIND_PRINCIPAL, added.name, account)
    store.insert_principal(connection, account, added, revision, now_us, trust_policy)
