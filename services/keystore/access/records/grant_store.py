"""Grants in the database: SQL and nothing else. What is read was verified: functions that read raise
ACCESS_RECORD_REFUSED for what keystore did not write, and those that decisions ask leave it out."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, delete, func, insert, or_, select, tuple_, update

from services.keystore.access.records.tables import grant_counts, grant_operations, grants
from services.runtime import clock, encryption_context
from services.runtime.access.grants import admits
from services.runtime.requests.names import ResourceName
from services.runtime.storage import sealed_rows
from strongroom.access.v1.access_record_service_pb2 import GrantRecord
from strongroom.access.v1.grant_pb2 import ContextPairs, GrantConstraint

_ANYTHING, _EQUALS, _CONTAINS = range(3)
_CANDIDATES = 1_000
_COUNTED = 1_000


@dataclass(frozen=True, slots=True)
class Grant:
    """Some operations on one key, delegated to one principal."""

    name: ResourceName
    key: ResourceName
    key_uid: bytes
    grantee: str
    operations: tuple[str, ...]
    constraint: GrantConstraint
    retiring_principal: str
    description: str
    creator: str
    expires_us: int | None
    created_us: int


def insert_grant(connection: Connection, added: Grant) -> None:
    """Adds a grant, with what decisions look up of it."""
    kind, pairs = _constraint_columns(added.constraint)
    row = {
        "account": added.name.account,
        "grant_id": added.name.id,
        "key_uid": added.key_uid,
        "key_id": added.key.id,
        "grantee": added.grantee,
        "operations": json.dumps(added.operations),
        "constraint_kind": kind,
        "constraint_pairs": json.dumps(pairs, sort_keys=True),
        "retiring_principal": added.retiring_principal,
        "description": added.description,
        "creator": added.creator,
        "expires_us": added.expires_us,
        "created_us": added.created_us,
    }
    sealed_rows.insert(connection, grants, [row])
    lookup = _lookup_of(connection, added, kind, pairs)
    rows = [
        {
            "key_uid": added.key_uid,
            "grantee": added.grantee,
            "operation": operation,
            "lookup": lookup,
            "grant_id": added.name.id,
        }
        for operation in added.operations
    ]
    connection.execute(insert(grant_operations), rows)
    _count(connection, added.key_uid, 1)


def delete_grants(connection: Connection, ended: Sequence[Grant]) -> None:
    """Removes grants."""
    for grant in ended:
        by_id = (grants.c.account == grant.name.account, grants.c.grant_id == grant.name.id)
        found = connection.execute(delete(grants).where(*by_id)).rowcount
        of_grant = (grant_operations.c.key_uid == grant.key_uid, grant_operations.c.grant_id == grant.name.id)
        connection.execute(delete(grant_operations).where(*of_grant))
        if found:
            _count(connection, grant.key_uid, -1)


def grant(connection: Connection, name: ResourceName) -> Grant | None:
    """The grant of this name."""
    by_id = select(grants).where(grants.c.account == name.account, grants.c.grant_id == name.id)
    row = connection.execute(by_id).one_or_none()
    return _grant(connection, row) if row is not None else None


def count(connection: Connection, key_uid: bytes) -> int:
    """How many grants a key has, those that have expired lately among them."""
    counted = select(grant_counts.c.grants).where(grant_counts.c.key_uid == key_uid)
    return int(connection.execute(counted).scalar_one_or_none() or 0)


def page(
    connection: Connection,
    account: str,
    after: tuple[str, str],
    limit: int,
    now_us: int,
    *,
    key_uid: bytes = b"",
    grantee: str = "",
    retiring_principal: str = "",
) -> list[Grant]:
    """Grants that have not expired, in the order of their names, from the first behind `after`, an account and an id.
    Those of one account, or without one of all."""
    asked = {
        grants.c.account: account,
        grants.c.key_uid: key_uid,
        grants.c.grantee: grantee,
        grants.c.retiring_principal: retiring_principal,
    }
    conditions: list[ColumnElement[bool]] = [column == value for column, value in asked.items() if value]
    if account:
        order: tuple[Column[Any], ...] = (grants.c.grant_id,)
        conditions.append(grants.c.grant_id > after[1])
    else:
        order = (grants.c.account, grants.c.grant_id)
        conditions.append(tuple_(*order) > tuple_(*after))
    found = select(grants).where(*conditions, _lasting(now_us)).order_by(*order).limit(limit)
    return [_grant(connection, row) for row in connection.execute(found).all()]


def of_grantees(
    connection: Connection, key_uid: bytes, grantees: Collection[str], limit: int, now_us: int
) -> list[Grant]:
    """Grants on a key to any of these principals, whatever they permit."""
    to_them = (grants.c.key_uid == key_uid, grants.c.grantee.in_(grantees), _lasting(now_us))
    rows = connection.execute(select(grants).where(*to_them).limit(limit)).all()
    return [_grant(connection, row) for row in sealed_rows.good(connection, grants, rows)]


def permitting(
    connection: Connection,
    key_uid: bytes,
    grantees: Collection[str],
    operation: str,
    pairs: Mapping[str, str],
    limit: int,
    now_us: int,
) -> list[Grant]:
    """Grants on a key to any of these principals that permit an operation under an encryption context. Among however
    many grants, only those are read whose constraint shares a pair with the context."""
    # In two steps: joined, a planner may well begin with every grant of the key.
    ids = (
        select(grant_operations.c.grant_id)
        .where(
            grant_operations.c.key_uid == key_uid,
            grant_operations.c.grantee.in_(grantees),
            grant_operations.c.operation == operation,
            grant_operations.c.lookup.in_(_lookups(pairs)),
        )
        .limit(_CANDIDATES)
    )
    candidates = list(connection.execute(ids).scalars())
    if not candidates:
        return []
    lasting = (grants.c.key_uid == key_uid, grants.c.grant_id.in_(candidates), _lasting(now_us))
    rows = connection.execute(select(grants).where(*lasting)).all()
    found = (_grant(connection, row) for row in sealed_rows.good(connection, grants, rows))
    # What was looked up says where to look; what is permitted, the grant itself.
    own = (grant for grant in found if grant.grantee in grantees and operation in grant.operations)
    return [grant for grant in own if admits(grant.constraint, pairs)][:limit]


def accounts_with_expired(connection: Connection, before_us: int) -> list[str]:
    """Accounts on whose keys grants expired before then."""
    ended = select(grants.c.account).where(grants.c.expires_us < before_us).distinct()
    return list(connection.execute(ended).scalars())


def expired(connection: Connection, account: str, before_us: int, limit: int) -> list[Grant]:
    """Grants on an account's keys that expired before then, without those that keystore did not write so."""
    ended = select(grants).where(grants.c.account == account, grants.c.expires_us < before_us)
    rows = connection.execute(ended.order_by(grants.c.expires_us).limit(limit)).all()
    return [_grant(connection, row) for row in sealed_rows.good(connection, grants, rows)]


def of_principal(connection: Connection, principal: str, limit: int) -> list[Grant]:
    """Grants to a principal, expired or not."""
    rows = connection.execute(select(grants).where(grants.c.grantee == principal).limit(limit)).all()
    return [_grant(connection, row) for row in rows]


def record(found: Grant) -> GrantRecord:
    """A grant as the services use it."""
    return GrantRecord(
        name=str(found.name),
        grantee=found.grantee,
        operations=found.operations,
        constraint=found.constraint if found.constraint.WhichOneof("kind") else None,
        expire_time=None if found.expires_us is None else clock.from_microseconds(found.expires_us),
    )


def lookup_of_contained(key: str, value: str) -> bytes:
    """What a grant is found by whose constraint contains this pair, and which is found by no rarer one."""
    return _digest(_CONTAINS, {key: value})


def _lasting(now_us: int) -> ColumnElement[bool]:
    return or_(grants.c.expires_us.is_(None), grants.c.expires_us > now_us)


def _count(connection: Connection, key_uid: bytes, by: int) -> None:
    of_key = grant_counts.c.key_uid == key_uid
    changed = update(grant_counts).where(of_key).values(grants=grant_counts.c.grants + by)
    if not connection.execute(changed).rowcount:
        connection.execute(insert(grant_counts).values(key_uid=key_uid, grants=by))


def _constraint_columns(constraint: GrantConstraint) -> tuple[int, dict[str, str]]:
    kind = constraint.WhichOneof("kind")
    if kind == "context_equals":
        return _EQUALS, dict(constraint.context_equals.pairs)
    if kind == "context_contains":
        return _CONTAINS, dict(constraint.context_contains.pairs)
    return _ANYTHING, {}


def _lookup_of(connection: Connection, added: Grant, kind: int, pairs: Mapping[str, str]) -> bytes:
    """What an encryption context must bring for the grant to be read at all."""
    if kind == _ANYTHING:
        return _digest(_ANYTHING, {})
    if kind == _EQUALS:
        return _digest(_EQUALS, pairs)
    # The pair that fewest of the grantee's other grants on the key are found by: the disk's, not the region's.
    return min(
        (lookup_of_contained(key, value) for key, value in sorted(pairs.items())),
        key=lambda lookup: _others(connection, added, lookup),
    )


def _others(connection: Connection, added: Grant, lookup: bytes) -> int:
    alike = (
        select(grant_operations.c.grant_id)
        .where(
            grant_operations.c.key_uid == added.key_uid,
            grant_operations.c.grantee == added.grantee,
            grant_operations.c.operation == added.operations[0],
            grant_operations.c.lookup == lookup,
        )
        .limit(_COUNTED)
    )
    return int(connection.execute(select(func.count()).select_from(alike.subquery())).scalar_one())


def _lookups(pairs: Mapping[str, str]) -> list[bytes]:
    """Every lookup that a context brings."""
    single = (lookup_of_contained(key, value) for key, value in pairs.items())
    return [_digest(_ANYTHING, {}), _digest(_EQUALS, pairs), *single]


def _digest(kind: int, pairs: Mapping[str, str]) -> bytes:
    return sha256(bytes([kind]) + encryption_context.canonical(pairs)).digest()


def _grant(connection: Connection, row: Row[Any]) -> Grant:
    name = ResourceName(row.account, "grants", row.grant_id)
    sealed_rows.require(connection, grants, row, name)
    pairs = ContextPairs(pairs=json.loads(row.constraint_pairs))
    constraint = GrantConstraint()
    if row.constraint_kind == _EQUALS:
        constraint.context_equals.CopyFrom(pairs)
    elif row.constraint_kind == _CONTAINS:
        constraint.context_contains.CopyFrom(pairs)
    return Grant(
        name,
        ResourceName(row.account, "keys", row.key_id),
        row.key_uid,
        row.grantee,
        tuple(json.loads(row.operations)),
        constraint,
        row.retiring_principal,
        row.description,
        row.creator,
        row.expires_us,
        row.created_us,
    )
