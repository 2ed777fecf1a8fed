"""A new account: its administrator, the roles that it begins with, and their policies."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection

from services.keystore.access.editing import kinds
from services.keystore.access.editing.editing import insert
from services.keystore.access.records.resources import Account, Policy, Principal, RoleSettings, id_of
from strongroom.access.v1.policy_pb2 import POLICY_KIND_IDENTITY

DEFAULT_SESSION_S = 3600
"""The longest session of a role that does not say."""

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
# Attached to the whole account: a service has none. Rotation uses keys, and replaces client keys that it holds, by
# itself and for no caller.
_ROTATION = """permit (
  principal == Strongroom::Service::"services/secrets",
  action in [
    Strongroom::Action::"crypto:GenerateDataKey", Strongroom::Action::"crypto:Decrypt",
    Strongroom::Action::"access:CreateClientKey", Strongroom::Action::"access:DeleteClientKey"
  ],
  resource
)
when {{ resource in Strongroom::Account::"accounts/{account}" }};
"""
# These roles are held all the time or not at all.
_ASSUMED_BY_NOBODY = """forbid (principal, action == Strongroom::Action::"access:AssumeRole", resource);
"""


def add(
    connection: Connection, new: Account, administrator_id: str, spiffe_ids: Collection[str], now_us: int
) -> tuple[Account, Principal]:
    """Adds an account; itself and its administrator are the answer. Raises IntegrityError when its id is taken."""
    account = insert(connection, kinds.ACCOUNT, new, now_us)
    roles = [f"{account.name}/roles/{role}" for role in _POLICIES]
    for name in roles:
        settings = RoleSettings(_ASSUMED_BY_NOBODY, DEFAULT_SESSION_S)
        insert(connection, kinds.PRINCIPAL, Principal(name, "", {}, role_settings=settings), now_us)
    administrator = Principal(
        f"{account.name}/users/{administrator_id}", "", {}, tuple(roles), tuple(sorted(spiffe_ids))
    )
    administrator = insert(connection, kinds.PRINCIPAL, administrator, now_us)
    policies = [(role, text, f"{account.name}/roles/{role}") for role, text in _POLICIES.items()]
    for policy_id, text, target in (*policies, ("rotation", _ROTATION, account.name)):
        cedar = text.format(account=id_of(account.name))
        policy = Policy(f"{account.name}/policies/{policy_id}", POLICY_KIND_IDENTITY, cedar, (target,), "")
        insert(connection, kinds.POLICY, policy, now_us)
    return account, administrator
