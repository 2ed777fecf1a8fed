"""What the mesh reads of accounts, principals and policies, and token keys: SQL and nothing else.

What keystore did not write permits nothing: principals, token keys and identities are left out, credentials are ended,
of policies the permits do not count. An account that lacks a record, or has an older one, is refused as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, delete, func, literal, or_, select

from services.keystore.access.records import contents
from services.keystore.access.records.resources import account_of
from services.keystore.access.records.tables import (
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
from services.runtime.storage import sealed_rows
from strongroom.access.v1.access_record_service_pb2 import (
    AccountAccess,
    PolicyRecord,
    PrincipalRecord,
    QuotaRecord,
    TokenKey,
)
from strongroom.access.v1.policy_pb2 import POLICY_KIND_IDENTITY, POLICY_KIND_RESOURCE, PolicyKind

SESSION_US = (12 * 3600 + 600) * 1_000_000
"""Longer than any session lasts, by what the clocks of replicas may differ."""


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
    """Everything that decisions about an account's principals rest on, or None when there is no such account. Raises
    ACCESS_RECORD_REFUSED for an account that is not as keystore left it. One that there is not takes as long as one
    that there is."""
    row = connection.execute(select(accounts).where(accounts.c.account == account)).one_or_none()
    if row is None:
        contents.look_in_vain(connection, account)
    else:
        contents.require(connection, row)
    living = (principals.c.account == account, principals.c.deleted_us.is_(None))
    found = connection.execute(select(principals).where(*living).order_by(principals.c.name)).all()
    who = sealed_rows.good(connection, principals, found)
    limits = connection.execute(select(quotas).where(quotas.c.account == account).order_by(quotas.c.target))
    access = AccountAccess(
        account=account,
        principals=map(_principal, who),
        policies=_identity_policies(connection, account),
        quotas=map(_quota, limits),
        disabled=row is not None and row.disabled,
        ended_client_keys=_ended_client_keys(connection, account, now_us),
        ended_oidc_providers=_ended_oidc_providers(connection, account),
    )
    return access if row is not None else None


def account_characters(connection: Connection, account: str) -> int:
    """About how many characters `account_access` has, or would have if all credentials of the account were ended and
    all principals had quotas: neither needs room when it comes."""
    living = (principals.c.account == account, principals.c.deleted_us.is_(None))
    of_principals = func.sum(
        _characters(principals.c.name, principals.c.roles, principals.c.tags, principals.c.ended_sessions)
        + _characters(principals.c.name)
    )
    identity = (policies.c.account == account, policies.c.kind == POLICY_KIND_IDENTITY)
    of_policies = func.sum(_characters(policies.c.name, policies.c.cedar))
    attached = select(func.sum(_characters(policy_attachments.c.target))).join(
        policies, policy_attachments.c.policy == policies.c.name
    )
    # Of a name that begins with the account's, beside what `_characters` has for each.
    named = len(f"accounts/{account}/oidcProviders/")
    parts = (
        select(of_principals).where(*living),
        select(of_policies).where(*identity),
        attached.where(*identity),
        select(func.sum(_characters(client_keys.c.client_key_id) + named)).where(client_keys.c.account == account),
        select(func.sum(_characters(oidc_providers.c.oidc_provider_id) + named)).where(
            oidc_providers.c.account == account
        ),
    )
    return sum(int(connection.execute(part).scalar_one() or 0) for part in parts)


def characters(*texts: str) -> int:
    """How many characters of `account_characters` a record with these texts is."""
    return _OVERHEAD + sum(map(len, texts))


def count_principals(connection: Connection, account: str) -> int:
    """How many principals an account has."""
    living = (principals.c.account == account, principals.c.deleted_us.is_(None))
    return int(connection.execute(select(func.count()).select_from(principals).where(*living)).scalar_one())


def resource_policies(connection: Connection, resource: str) -> list[PolicyRecord]:
    """The policies that are attached to a key or secret, by name."""
    on_it = select(policy_attachments).where(policy_attachments.c.target == resource)
    attachments = _good_attachments(connection, connection.execute(on_it).all())
    attached = select(policies).where(policies.c.name.in_(list(attachments))).order_by(policies.c.name)
    rows = connection.execute(attached).all()
    return [_policy(connection, row, POLICY_KIND_RESOURCE) for row in rows]


def principal(connection: Connection, name: str) -> PrincipalRecord | None:
    """The principal of this name, unless it was deleted."""
    living = (principals.c.name == name, principals.c.deleted_us.is_(None))
    rows = connection.execute(select(principals).where(*living)).all()
    return next(map(_principal, sealed_rows.good(connection, principals, rows)), None)


def grantees(connection: Connection, name: str) -> list[str]:
    """Whose grants serve a principal: its own name, and the roles that it holds."""
    record = principal(connection, name)
    return [name, *(record.roles if record is not None else ())]


def principal_of_identity(connection: Connection, spiffe_id: str) -> PrincipalRecord | None:
    """The principal that a SPIFFE id is bound to."""
    rows = connection.execute(select(identities).where(identities.c.spiffe_id == spiffe_id)).all()
    bound = next(sealed_rows.good(connection, identities, rows), None)
    if bound is None or not contents.require_of(connection, account_of(bound.principal)):
        return None
    return principal(connection, bound.principal)


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
        for row in sealed_rows.good(connection, token_keys, connection.execute(ordered).all())
    ]


def insert_token_key(connection: Connection, added: TokenKey, now_us: int) -> None:
    """Adds a public key, and forgets those that have ended."""
    connection.execute(delete(token_keys).where(token_keys.c.not_after_us <= now_us))
    row = {
        "key_id": added.key_id,
        "public_key": added.public_key,
        "not_before_us": clock.microseconds(added.not_before),
        "not_after_us": clock.microseconds(added.not_after),
    }
    sealed_rows.insert(connection, token_keys, [row])


def _identity_policies(connection: Connection, account: str) -> list[PolicyRecord]:
    """Those that are attached to anything, by name."""
    of_account = (policies.c.account == account, policies.c.kind == POLICY_KIND_IDENTITY)
    whole = select(policy_attachments).join(policies, policies.c.name == policy_attachments.c.policy)
    attached = connection.execute(whole.where(*of_account)).all()
    targets = _good_attachments(connection, attached)
    rows = connection.execute(select(policies).where(*of_account).order_by(policies.c.name)).all()
    records = [_policy(connection, row, POLICY_KIND_IDENTITY, targets[row.name]) for row in rows if row.name in targets]
    for record in records:
        if f"accounts/{account}" in record.attached_to:
            # To every principal, which the record says by naming none.
            del record.attached_to[:]
    return records


def _good_attachments(connection: Connection, rows: Sequence[Row[Any]]) -> dict[str, list[str]]:
    """What policies are attached to, by their names."""
    targets: dict[str, list[str]] = {}
    for row in sealed_rows.good(connection, policy_attachments, rows):
        targets.setdefault(row.policy, []).append(row.target)
    return targets


def _policy(
    connection: Connection, row: Row[Any], kind: PolicyKind.ValueType, attached_to: Sequence[str] = ()
) -> PolicyRecord:
    return PolicyRecord(
        name=row.name,
        cedar=row.cedar,
        kind=kind,
        attached_to=attached_to,
        refused=not sealed_rows.is_good(connection, policies, row),
    )


def _ended_client_keys(connection: Connection, account: str, now_us: int) -> list[str]:
    lately = or_(client_keys.c.deleted_us.is_(None), client_keys.c.deleted_us > now_us - SESSION_US)
    rows = connection.execute(select(client_keys).where(client_keys.c.account == account, lately)).all()
    return [
        f"accounts/{account}/clientKeys/{row.client_key_id}"
        for row in rows
        if row.disabled or row.deleted_us is not None or not sealed_rows.is_good(connection, client_keys, row)
    ]


def _ended_oidc_providers(connection: Connection, account: str) -> list[str]:
    rows = connection.execute(select(oidc_providers).where(oidc_providers.c.account == account)).all()
    return [
        f"accounts/{account}/oidcProviders/{row.oidc_provider_id}"
        for row in rows
        if row.disabled or not sealed_rows.is_good(connection, oidc_providers, row)
    ]


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
        ended_sessions=sorted(json.loads(row.ended_sessions)) if row.ended_sessions else (),
    )
