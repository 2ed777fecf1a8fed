"""Accounts, principals, policies and token keys in the database: SQL and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from services.keystore.tables import accounts, identities, policies, principals, token_keys
from services.runtime import clock
from strongroom.access.v1.access_record_service_pb2 import AccountAccess, PolicyRecord, PrincipalRecord, TokenKey
from strongroom.access.v1.policy_pb2 import POLICY_KIND_IDENTITY


def account_access(connection: Connection, account: str) -> AccountAccess | None:
    """Principals and attached policies of an account, or None when there is no such account."""
    row = connection.execute(select(accounts).where(accounts.c.account == account)).one_or_none()
    if row is None:
        return None
    who = connection.execute(select(principals).where(principals.c.account == account).order_by(principals.c.name))
    attached = select(policies).where(policies.c.account == account, policies.c.attached_to.is_not(None))
    return AccountAccess(
        account=account,
        principals=map(_principal, who),
        policies=[
            PolicyRecord(
                name=policy.name,
                cedar=policy.cedar,
                attached_to=json.loads(policy.attached_to),
                kind=POLICY_KIND_IDENTITY,
            )
            for policy in connection.execute(attached.order_by(policies.c.name))
        ],
        disabled=row.disabled,
    )


def principal(connection: Connection, name: str) -> PrincipalRecord | None:
    """The principal of this name."""
    row = connection.execute(select(principals).where(principals.c.name == name)).one_or_none()
    return _principal(row) if row is not None else None


def principal_of_identity(connection: Connection, spiffe_id: str) -> PrincipalRecord | None:
    """The principal that a SPIFFE id is bound to."""
    bound = select(principals).join(identities, identities.c.principal == principals.c.name)
    row = connection.execute(bound.where(identities.c.spiffe_id == spiffe_id)).one_or_none()
    return _principal(row) if row is not None else None


def insert_account(connection: Connection, account: str, now_us: int) -> None:
    """Adds an account."""
    connection.execute(insert(accounts).values(account=account, disabled=False, created_us=now_us))


def insert_principal(connection: Connection, account: str, added: PrincipalRecord, now_us: int) -> None:
    """Adds a principal."""
    connection.execute(
        insert(principals).values(
            name=added.name,
            account=account,
            kind=added.kind,
            disabled=added.disabled,
            roles=json.dumps(list(added.roles)),
            tags=json.dumps(dict(added.tags), sort_keys=True),
            created_us=now_us,
        )
    )


def bind_identity(connection: Connection, spiffe_id: str, principal_name: str) -> None:
    """Makes a SPIFFE id stand for a principal, instead of whom it stood for."""
    connection.execute(delete(identities).where(identities.c.spiffe_id == spiffe_id))
    connection.execute(insert(identities).values(spiffe_id=spiffe_id, principal=principal_name))


def insert_policy(
    connection: Connection, account: str, name: str, cedar: str, attached_to: Sequence[str], now_us: int
) -> None:
    """Adds a policy that is attached to principals, or with none to the whole account."""
    connection.execute(
        insert(policies).values(
            name=name, account=account, cedar=cedar, attached_to=json.dumps(list(attached_to)), created_us=now_us
        )
    )


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
