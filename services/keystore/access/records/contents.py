"""What an account holds that decides over its principals, bound to the account's row as a set: a record that was taken
away, or put back as it was, is noticed though each that is there is good."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, func, select, union_all

from services.keystore.access.records.tables import (
    accounts,
    client_keys,
    given_spiffe_ids,
    identities,
    oidc_bindings,
    oidc_providers,
    policies,
    policy_attachments,
    principals,
    waiting_identities,
)
from services.keystore.store import changes
from services.runtime.storage import row_seals, sealed_rows
from services.runtime.storage.database import before_commit, is_awaited

NOTHING = sealed_rows.digest([])
"""What a new account holds."""

_OF_ACCOUNT = (principals, policies, client_keys, oidc_providers, waiting_identities, given_spiffe_ids)
_OF_PRINCIPAL = (identities, oidc_bindings)


def changing(connection: Connection, account: str) -> None:
    """To be called before records of an account change: what it holds is what it held, or ACCESS_RECORD_REFUSED is
    raised; and what it holds when the transaction commits is bound to it."""
    if not is_awaited(connection, _key(account)):
        require_of(connection, account)
        before_commit(connection, _key(account), lambda: _bind(connection, account))


def require(connection: Connection, account: Row[Any]) -> None:
    """Raises ACCESS_RECORD_REFUSED unless the account, of which this is the row, holds what it held when it was last
    changed."""
    name = f"accounts/{account.account}"
    sealed_rows.require(connection, accounts, account, name)
    if is_awaited(connection, _key(account.account)):
        # It was asked before it began to change, in this transaction.
        return
    if account.contents != _digest(connection, account.account):
        raise row_seals.of(connection).refused(f"{name}'s records")
    sealed_rows.require_newest(connection, name, account.contents_revision)


def look_in_vain(connection: Connection, account: str) -> None:
    """Takes as long as `require` for an account that there is not."""
    _digest(connection, account)


def require_of(connection: Connection, account: str) -> bool:
    """Whether there is an account of this id. Raises ACCESS_RECORD_REFUSED unless it holds what it held when it was
    last changed."""
    row = connection.execute(select(accounts).where(accounts.c.account == account)).one_or_none()
    if row is None:
        return False
    require(connection, row)
    return True


def count(connection: Connection, account: str) -> int:
    """How many records an account has, without those that were deleted and are bound to it still."""
    held = union_all(*_seals(account)).subquery()
    bound = int(connection.execute(select(func.count()).select_from(held)).scalar_one())
    return bound - sum(
        _count(connection, table, account, table.c.deleted_us.is_not(None)) for table in (principals, client_keys)
    )


def count_principals_ever(connection: Connection, account: str) -> int:
    """How many principals an account has or had."""
    return _count(connection, principals, account)


def count_client_keys_kept(connection: Connection, account: str) -> int:
    """How many client keys an account has, or had and still has to tell of."""
    return _count(connection, client_keys, account)


def _count(connection: Connection, table: Table, account: str, *conditions: ColumnElement[bool]) -> int:
    found = select(func.count()).select_from(table).where(table.c.account == account, *conditions)
    return int(connection.execute(found).scalar_one())


def revision(connection: Connection, account: str) -> int | None:
    """The number of the last change of what an account holds; None where there is no such account."""
    last = select(accounts.c.contents_revision).where(accounts.c.account == account)
    number: int | None = connection.execute(last).scalar_one_or_none()
    return number


def bind(connection: Connection, account: str) -> None:
    """Takes what an account holds for what it is to hold. The seal is for its caller to make."""
    values = {"contents": _digest(connection, account), "contents_revision": changes.current(connection)}
    connection.execute(accounts.update().where(accounts.c.account == account).values(values))


def _key(account: str) -> tuple[str, str]:
    return "contents", account


def _bind(connection: Connection, account: str) -> None:
    values = {"contents": _digest(connection, account), "contents_revision": changes.current(connection)}
    sealed_rows.update(connection, accounts, [accounts.c.account == account], values)


def _digest(connection: Connection, account: str) -> bytes:
    held = union_all(*_seals(account))
    return sealed_rows.digest(connection.execute(held).scalars())


def _seals(account: str) -> list[Select[Any]]:
    of_principals = [
        _seals_of(table).join(principals, principals.c.name == table.c.principal).where(principals.c.account == account)
        for table in _OF_PRINCIPAL
    ]
    attached = _seals_of(policy_attachments).join(policies, policies.c.name == policy_attachments.c.policy)
    return [
        *(_seals_of(table).where(table.c.account == account) for table in _OF_ACCOUNT),
        *of_principals,
        attached.where(policies.c.account == account),
    ]


def _seals_of(table: Table) -> Select[Any]:
    return select(table.c.seal)
