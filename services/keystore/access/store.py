"""What the mesh reads of accounts, principals and policies, and token keys: SQL and nothing else."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, delete, func, insert, literal, or_, select

from services.keystore.access.tables import (
    accounts,
    client_keys,
    identities,
    oidc_providers,
    policies,
    policy_attachments,
    principals,
    quotas,
    token_keys,
)
from services.runtime import clock
from services.runtime.errors import Reason, StrongroomError
from strongroom.access.v1.access_record_service_pb2 import (
    AccountAccess,
    PolicyRecord,
    PrincipalRecord,
    QuotaRecord,
    TokenKey,
)
from strongroom.access.v1.policy_pb2 import POLICY_KIND_IDENTITY, POLICY_KIND_RESOURCE

SESSION_US = 12 * 3600 * 1_000_000
"""The longest that a session lasts."""


_OVERHEAD = 16


def account_exists(connection: Connection, account: str) -> bool:
    """Whether there is an account of this id."""
    found = select(accounts.c.account).where(accounts.c.account == account)
    return connection.execute(found).one_or_none() is not None


def lock_account(connection: Connection, account: str) -> None:
    """Until the transaction ends nobody else changes access in the account. Raises ACCOUNT_NOT_FOUND."""
    wanted = select(accounts.c.account).where(accounts.c.account == account).with_for_update()
    if connection.execute(wanted).one_or_none() is None:
        raise StrongroomError(Reason.ACCOUNT_NOT_FOUND, f"there is no accounts/{account}")


def account_access(connection: Connection, account: str, now_us: int) -> AccountAccess | None:
    """Everything that decisions about an account's principals rest on, or None when there is no such account."""
    row = connection.execute(select(accounts).where(accounts.c.account == account)).one_or_none()
    if row is None:
        return None
    living = (principals.c.account == account, principals.c.deleted_us.is_(None))
    who = connection.execute(select(principals).where(*living).order_by(principals.c.name))
    limits = connection.execute(select(quotas).where(quotas.c.account == account).order_by(quotas.c.target))
    return AccountAccess(
        account=account,
        principals=map(_principal, who),
        policies=_identity_policies(connection, account),
        quotas=map(_quota, limits),
        disabled=row.disabled,
        ended_client_keys=_ended_client_keys(connection, account, now_us),
        ended_oidc_providers=_ended_oidc_providers(connection, account),
    )


def account_characters(connection: Connection, account: str) -> int:
    """About how many characters `account_access` has."""
    living = (principals.c.account == account, principals.c.deleted_us.is_(None))
    of_principals = func.sum(_characters(principals.c.name, principals.c.roles, principals.c.tags))
    identity = (policies.c.account == account, policies.c.kind == POLICY_KIND_IDENTITY)
    of_policies = func.sum(_characters(policies.c.name, policies.c.cedar))
    attached = select(func.sum(_characters(policy_attachments.c.target))).join(
        policies, policy_attachments.c.policy == policies.c.name
    )
    parts = (select(of_principals).where(*living), select(of_policies).where(*identity), attached.where(*identity))
    return sum(int(connection.execute(part).scalar_one() or 0) for part in parts)


def resource_policies(connection: Connection, resource: str) -> list[PolicyRecord]:
    """The policies that are attached to a key or secret, by name."""
    attached = select(policies).join(policy_attachments, policy_attachments.c.policy == policies.c.name)
    ordered = attached.where(policy_attachments.c.target == resource).order_by(policies.c.name)
    return [
        PolicyRecord(name=row.name, cedar=row.cedar, kind=POLICY_KIND_RESOURCE) for row in connection.execute(ordered)
    ]


def principal(connection: Connection, name: str) -> PrincipalRecord | None:
    """The principal of this name, unless it was deleted."""
    living = (principals.c.name == name, principals.c.deleted_us.is_(None))
    row = connection.execute(select(principals).where(*living)).one_or_none()
    return _principal(row) if row is not None else None


def grantees(connection: Connection, name: str) -> list[str]:
    """Whose grants serve a principal: its own name, and the roles that it holds."""
    record = principal(connection, name)
    return [name, *(record.roles if record is not None else ())]


def principal_of_identity(connection: Connection, spiffe_id: str) -> PrincipalRecord | None:
    """The principal that a SPIFFE id is bound to."""
    bound = select(principals).join(identities, identities.c.principal == principals.c.name)
    row = connection.execute(bound.where(identities.c.spiffe_id == spiffe_id)).one_or_none()
    return _principal(row) if row is not None else None


def valid_token_keys(connection: Connection, now_us: int) -> list[TokenKey]:
    """The public keys under which session tokens are valid, newest first."""
    ordered = select(token_keys).where(token_keys.c.not_after_us > now_us).order_by(token_keys.c.not_before_us.desc())
    return [
        TokenKey(
            key_id=row.key_id,
            public_key=row.public_key,
            not_before=clock.from_microseconds(row.not_before_us),
            not_after=clock.from_microseconds(row.not_after_us),
        )
        for row in connection.execute(ordered)
    ]


def insert_token_key(connection: Connection, added: TokenKey, now_us: int) -> None:
    """Adds a public key, and forgets those that have ended."""
    connection.execute(delete(token_keys).where(token_keys.c.not_after_us <= now_us))
    connection.execute(
        insert(token_keys).values(
            key_id=added.key_id,
            public_key=added.public_key,
            not_before_us=clock.microseconds(added.not_before),
            not_after_us=clock.microseconds(added.not_after),
        )
    )


def _identity_policies(connection: Connection, account: str) -> list[PolicyRecord]:
    """Those that are attached to anything, by name."""
    of_account = (policies.c.account == account, policies.c.kind == POLICY_KIND_IDENTITY)
    attached = select(policies.c.name, policies.c.cedar, policy_attachments.c.target).join_from(
        policies, policy_attachments, policy_attachments.c.policy == policies.c.name
    )
    records: dict[str, PolicyRecord] = {}
    for name, cedar, target in connection.execute(attached.where(*of_account).order_by(policies.c.name)):
        record = records.get(name)
        if record is None:
            record = records[name] = PolicyRecord(name=name, cedar=cedar, kind=POLICY_KIND_IDENTITY)
        record.attached_to.append(target)
    for record in records.values():
        if f"accounts/{account}" in record.attached_to:
            # To every principal, which the record says by naming none.
            del record.attached_to[:]
    return list(records.values())


def _ended_client_keys(connection: Connection, account: str, now_us: int) -> list[str]:
    deleted_lately = client_keys.c.deleted_us > now_us - SESSION_US
    ended = select(client_keys.c.client_key_id).where(
        client_keys.c.account == account, or_(client_keys.c.disabled, deleted_lately)
    )
    return [f"accounts/{account}/clientKeys/{row}" for row in connection.execute(ended).scalars()]


def _ended_oidc_providers(connection: Connection, account: str) -> list[str]:
    ended = select(oidc_providers.c.oidc_provider_id).where(
        oidc_providers.c.account == account, oidc_providers.c.disabled
    )
    return [f"accounts/{account}/oidcProviders/{row}" for row in connection.execute(ended).scalars()]


def _characters(*columns: Column[str]) -> ColumnElement[int]:
    # With something for what else a record has.
    total: ColumnElement[int] = sum((func.length(column) for column in columns), literal(_OVERHEAD))
    return total


def _quota(row: Row[Any]) -> QuotaRecord:
    return QuotaRecord(
        target=row.target,
        requests_per_second=row.requests_per_second,
        burst=row.burst,
        default_principal_requests_per_second=row.default_principal_requests_per_second,
    )


def _principal(row: Row[Any]) -> PrincipalRecord:
    after = row.sessions_valid_after_us
    return PrincipalRecord(
        name=row.name,
        kind=row.kind,
        disabled=row.disabled,
        roles=json.loads(row.roles),
        tags=json.loads(row.tags),
        sessions_valid_after=clock.from_microseconds(after) if after is not None else None,
    )
