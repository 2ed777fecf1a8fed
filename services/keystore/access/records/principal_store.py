"""Principals in the database, with what they are known by: SQL and nothing else. What is read was verified: functions
that read principals raise ACCESS_RECORD_REFUSED for what keystore did not write."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, exists, select

from services.keystore.access.records import contents, given_ids
from services.keystore.access.records.resources import OidcBinding, Principal, RoleSettings, account_of
from services.keystore.access.records.tables import grants, identities, oidc_bindings, principals, waiting_identities
from services.keystore.store.store import tags_text
from services.runtime.storage import sealed_rows
from services.runtime.storage.sql_filters import Condition

_SOME = 1_000


def principal(connection: Connection, name: str) -> Principal | None:
    """The principal of this name, unless it was deleted."""
    living = (principals.c.name == name, principals.c.deleted_us.is_(None))
    rows = connection.execute(select(principals).where(*living)).all()
    return next(iter(_principals(connection, rows)), None)


def principals_page(
    connection: Connection, account: str, after: str, limit: int, conditions: Sequence[Condition]
) -> list[Principal]:
    """An account's principals that meet the conditions, in the order of their names, from the first behind `after`."""
    met = [condition(connection.dialect.name) for condition in conditions]
    living = (principals.c.account == account, principals.c.name > after, principals.c.deleted_us.is_(None))
    ordered = select(principals).where(*living, *met).order_by(principals.c.name)
    return _principals(connection, connection.execute(ordered.limit(limit)).all())


def holders(connection: Connection, role: str) -> list[Principal]:
    """The principals that hold a role all the time."""
    living = (principals.c.account == account_of(role), principals.c.deleted_us.is_(None))
    # Names are plain in JSON.
    holding = select(principals).where(*living, principals.c.roles.contains(f'"{role}"', autoescape=True))
    return _principals(connection, connection.execute(holding.order_by(principals.c.name)).all())


def as_of_us(connection: Connection, name: str) -> int | None:
    """What a session of a principal rests on that begins now; None where there is no such principal."""
    living = (principals.c.name == name, principals.c.deleted_us.is_(None))
    rows = connection.execute(select(principals).where(*living)).all()
    found = next(sealed_rows.good(connection, principals, rows), None)
    return max(found.updated_us, found.sessions_valid_after_us or 0) if found is not None else None


def insert_principal(connection: Connection, added: Principal) -> None:
    """Adds a principal with its bindings, of a name that none of those has that ended. Raises IntegrityError when the
    name is taken."""
    values = {
        **_values(added),
        "name": added.name,
        "account": account_of(added.name),
        "kind": added.kind,
        "created_us": added.created_us,
    }
    contents.insert(connection, account_of(added.name), principals, [values])
    _insert_bindings(connection, added)


def update_principal(connection: Connection, changed: Principal) -> None:
    """Puts a principal and its bindings in the place of what they were."""
    named = [principals.c.name == changed.name]
    contents.update(connection, account_of(changed.name), principals, named, _values(changed))
    _delete_bindings(connection, changed.name)
    _insert_bindings(connection, changed)


def delete_principal(connection: Connection, name: str, now_us: int) -> None:
    """Ends a principal. Its name stays taken; what it is known by is free again."""
    contents.update(connection, account_of(name), principals, [principals.c.name == name], {"deleted_us": now_us})
    _delete_bindings(connection, name)


def deleted_with_grants(connection: Connection, after: str) -> tuple[list[str], str]:
    """Some principals that were deleted and have grants still, by name, behind the name `after`; and the name that the
    next ones are behind, which is empty where none are left."""
    granted = exists().where(grants.c.grantee == principals.c.name)
    left = select(principals).where(principals.c.deleted_us.is_not(None), principals.c.name > after, granted)
    rows = connection.execute(left.order_by(principals.c.name).limit(_SOME)).all()
    found = [row.name for row in sealed_rows.good(connection, principals, rows)]
    return found, rows[-1].name if len(rows) == _SOME else ""


def identity_owner(connection: Connection, spiffe_id: str) -> str | None:
    """The principal that a SPIFFE id stands for, of whatever account."""
    bound = select(identities.c.principal).where(identities.c.spiffe_id == spiffe_id)
    return connection.execute(bound).scalar_one_or_none()


def identity_owner_within(connection: Connection, account: str, spiffe_id: str) -> str | None:
    """The principal of this account that a SPIFFE id is bound to, whether or not it stands for it."""
    owner = identity_owner(connection, spiffe_id)
    waiting = select(waiting_identities.c.principal).filter_by(account=account, spiffe_id=spiffe_id)
    waits = connection.execute(waiting).scalar_one_or_none()
    return owner if owner is not None and account_of(owner) == account else waits


def subject_owner(connection: Connection, provider: str, subject: str) -> str | None:
    """The principal that a provider's subject is bound to."""
    bound = select(oidc_bindings.c.principal).where(
        oidc_bindings.c.provider == provider, oidc_bindings.c.subject == subject
    )
    return connection.execute(bound).scalar_one_or_none()


def bound_to_subject(connection: Connection, provider: str, subject: str) -> tuple[str, OidcBinding] | None:
    """The principal that a provider's subject stands for, and how it is bound."""
    bound = select(oidc_bindings).where(oidc_bindings.c.provider == provider, oidc_bindings.c.subject == subject)
    row = connection.execute(bound).one_or_none()
    return (row.principal, _binding(connection, row)) if row is not None else None


def bound_to_provider(connection: Connection, provider: str) -> list[str]:
    """The principals that subjects of a provider stand for, by name."""
    bound = select(oidc_bindings.c.principal).where(oidc_bindings.c.provider == provider).distinct()
    return list(connection.execute(bound.order_by(oidc_bindings.c.principal)).scalars())


def provider_in_use(connection: Connection, provider: str) -> bool:
    """Whether principals are bound to subjects of a provider."""
    bound = select(oidc_bindings.c.subject).where(oidc_bindings.c.provider == provider).limit(1)
    return connection.execute(bound).one_or_none() is not None


def bound_below(connection: Connection, prefix: str) -> Sequence[str]:
    """The principals that a SPIFFE id which is this, or is below it, is bound to, whether or not it stands for them."""
    owners: set[str] = set()
    for table in (identities, waiting_identities):
        ids = table.c.spiffe_id
        covered = ids.startswith(prefix, autoescape=True) if prefix.endswith("/") else ids == prefix
        owners |= set(connection.execute(select(table.c.principal).where(covered)).scalars())
    return sorted(owners)


def release_identity(connection: Connection, spiffe_id: str) -> None:
    """Makes a SPIFFE id stand for nobody, and takes it from the account that it was given to."""
    given_ids.take(connection, spiffe_id)
    owner = identity_owner(connection, spiffe_id)
    if owner is not None:
        contents.delete(connection, account_of(owner), identities, [identities.c.spiffe_id == spiffe_id])


def _insert_bindings(connection: Connection, of: Principal) -> None:
    account = account_of(of.name)
    for spiffe_id in of.spiffe_ids:
        row = {"spiffe_id": spiffe_id, "principal": of.name}
        free = given_ids.holder(connection, spiffe_id) in (None, account)
        if free and identity_owner(connection, spiffe_id) is None:
            contents.insert(connection, account, identities, [row])
        else:
            # Of another account, or given to it: within one it was refused before.
            contents.insert(connection, account, waiting_identities, [{"account": account, **row}])
    bound = [
        {
            "provider": binding.provider,
            "subject": binding.subject,
            "principal": of.name,
            "required_claims": tags_text(binding.required_claims),
        }
        for binding in of.oidc_bindings
    ]
    contents.insert(connection, account, oidc_bindings, bound)


def _delete_bindings(connection: Connection, name: str) -> None:
    for table in (identities, waiting_identities, oidc_bindings):
        contents.delete(connection, account_of(name), table, [table.c.principal == name])


def _values(of: Principal) -> dict[str, Any]:
    return {
        "description": of.description,
        "tags": tags_text(of.tags),
        "roles": json.dumps(list(of.roles)),
        "trust_policy": of.role_settings.trust_policy if of.role_settings else None,
        "max_session_s": of.role_settings.max_session_s if of.role_settings else None,
        "disabled": of.disabled,
        "sessions_valid_after_us": of.sessions_valid_after_us,
        "ended_sessions": json.dumps(dict(of.ended_sessions), sort_keys=True) if of.ended_sessions else "",
        "revision": of.revision,
        "updated_us": of.updated_us,
    }


def _principals(connection: Connection, rows: Sequence[Row[Any]]) -> list[Principal]:
    for row in rows:
        sealed_rows.require(connection, principals, row, row.name)
    names = [row.name for row in rows]
    spiffe_ids = _spiffe_ids(connection, names)
    bindings = _oidc_bindings(connection, names)
    return [
        Principal(
            row.name,
            row.description,
            json.loads(row.tags),
            tuple(json.loads(row.roles)),
            tuple(spiffe_ids.get(row.name, ())),
            tuple(bindings[row.name]),
            RoleSettings(row.trust_policy, row.max_session_s) if row.trust_policy is not None else None,
            row.disabled,
            row.sessions_valid_after_us,
            json.loads(row.ended_sessions) if row.ended_sessions else {},
            row.revision,
            row.created_us,
            row.updated_us,
        )
        for row in rows
    ]


def _spiffe_ids(connection: Connection, names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for table in (identities, waiting_identities):
        for row in connection.execute(select(table).where(table.c.principal.in_(names))).all():
            sealed_rows.require(connection, table, row, row.principal)
            found[row.principal].append(row.spiffe_id)
    return {name: sorted(spiffe_ids) for name, spiffe_ids in found.items()}


def _oidc_bindings(connection: Connection, names: Iterable[str]) -> dict[str, list[OidcBinding]]:
    ordered = (oidc_bindings.c.provider, oidc_bindings.c.subject)
    bound = select(oidc_bindings).where(oidc_bindings.c.principal.in_(names)).order_by(*ordered)
    found: dict[str, list[OidcBinding]] = defaultdict(list)
    for row in connection.execute(bound).all():
        found[row.principal].append(_binding(connection, row))
    return found


def _binding(connection: Connection, row: Row[Any]) -> OidcBinding:
    sealed_rows.require(connection, oidc_bindings, row, row.principal)
    return OidcBinding(row.provider, row.subject, json.loads(row.required_claims))
