"""What an account holds that decides over its principals, bound to the account's row as a set: a record that was taken
away, or put back as it was, is noticed though each that is there is good."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy import ColumnElement, Connection, Row, Select, Table, exists, func, or_, select, union_all

from services.keystore.access.records.tables import (
    accounts,
    client_keys,
    ended_names,
    given_spiffe_ids,
    grants,
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
from services.runtime.storage.database import awaited, before_commit
from services.runtime.storage.row_seals import SEAL

NOTHING = sealed_rows.digest([])
"""What a new account holds, until it holds something. Accounts that have not changed since releases without sums have
such a digest, too."""

_OF_ACCOUNT = (principals, policies, client_keys, oidc_providers, waiting_identities, given_spiffe_ids, ended_names)
_OF_PRINCIPAL = (identities, oidc_bindings)


class Change:
    """What a transaction makes of what an account holds; called when it commits, which binds that to the account."""

    def __init__(self, connection: Connection, account: str, row: Row[Any] | None) -> None:
        """`row` is the account's, if there is one yet."""
        self._connection = connection
        self._account = account
        self._keys = sealed_rows.set_keys(connection)
        self._total = 0 if row is None else _require(connection, row)
        self._bound = NOTHING if row is None else row_seals.seal_bytes(row.contents)

    def comes(self, seals: Iterable[object]) -> None:
        """That rows with these seals are there from now on."""
        self._total += self._keys.total(seals)

    def goes(self, seals: Iterable[object]) -> None:
        """That they are not any more."""
        self._total -= self._keys.total(seals)

    def __call__(self) -> None:
        """Binds what there is by now."""
        where = [accounts.c.account == self._account]
        bound = self._connection.execute(select(accounts.c.contents).where(*where)).scalar_one_or_none()
        if row_seals.seal_bytes(bound) != self._bound:
            # Of an account that others may change as well, until this transaction has its number.
            self._total = self._keys.total(_held(self._connection, self._account))
        values = _values(self._connection, self._account, self._total)
        sealed_rows.update(self._connection, accounts, where, values)


def changing(connection: Connection, account: str) -> Change:
    """To be called before records of an account change: what it holds is what it held, or ACCESS_RECORD_REFUSED is
    raised, which takes as long as the account is large. From then on `insert`, `update` and `delete` alone change them;
    what it holds when the transaction commits is bound to it, at no more work than what was changed."""
    change = awaited(connection, _key(account))
    if not isinstance(change, Change):
        row = connection.execute(select(accounts).where(accounts.c.account == account)).one_or_none()
        change = Change(connection, account, row)
        before_commit(connection, _key(account), change)
    return change


def insert(connection: Connection, account: str, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Adds rows to what an account holds. Raises IntegrityError as inserting does."""
    change = changing(connection, account)
    if rows:
        made = sealed_rows.sealed(connection, table, rows)
        connection.execute(sql.insert(table), made)
        change.comes(row[SEAL] for row in made)


def update(
    connection: Connection, account: str, table: Table, where: Sequence[ColumnElement[bool]], values: Mapping[str, Any]
) -> None:
    """Changes rows of what it holds."""
    change = changing(connection, account)
    exchanged = sealed_rows.replaced(connection, table, where, values)
    change.goes(before for before, _ in exchanged)
    change.comes(after for _, after in exchanged)


def delete(connection: Connection, account: str, table: Table, where: Sequence[ColumnElement[bool]]) -> None:
    """Takes rows from what it holds."""
    change = changing(connection, account)
    change.goes(sealed_rows.removed(connection, table, where))


def require(connection: Connection, account: Row[Any]) -> None:
    """Raises ACCESS_RECORD_REFUSED unless the account, of which this is the row, holds what it held when it was last
    changed."""
    if awaited(connection, _key(account.account)) is not None:
        # It was asked before it began to change, in this transaction.
        sealed_rows.require(connection, accounts, account, f"accounts/{account.account}")
        return
    _require(connection, account)


def _require(connection: Connection, account: Row[Any]) -> int:
    """The total of what it holds. Raises the same."""
    name = f"accounts/{account.account}"
    sealed_rows.require(connection, accounts, account, name)
    seals = _held(connection, account.account)
    total = sealed_rows.set_keys(connection).total(seals)
    bound = row_seals.seal_bytes(account.contents)
    shown = sealed_rows.set_keys(connection).shown(bound, name)
    if shown != total and (shown is not None or bound != sealed_rows.digest(seals)):
        raise row_seals.of(connection).refused(f"{name}'s records")
    sealed_rows.require_newest(connection, name, account.contents_revision)
    return total


def look_in_vain(connection: Connection, account: str) -> None:
    """Takes as long as `require` for an account that there is not."""
    sealed_rows.set_keys(connection).total(_held(connection, account))


def require_of(connection: Connection, account: str) -> bool:
    """Whether there is an account of this id. Raises ACCESS_RECORD_REFUSED unless it holds what it held when it was
    last changed."""
    row = connection.execute(select(accounts).where(accounts.c.account == account)).one_or_none()
    if row is None:
        return False
    require(connection, row)
    return True


def count(connection: Connection, account: str) -> int:
    """How many records an account has, without what is bound to it of those that were deleted."""
    held = union_all(*_seals(account)).subquery()
    bound = int(connection.execute(select(func.count()).select_from(held)).scalar_one())
    deleted = sum(
        _count(connection, table, account, table.c.deleted_us.is_not(None)) for table in (principals, client_keys)
    )
    return bound - deleted - _count(connection, ended_names, account)


def has_principals_kept(connection: Connection, account: str, count: int) -> bool:
    """Whether there are so many principals that an account has, or had and that have grants still."""
    if _count(connection, principals, account) < count:
        return False
    granted = exists().where(grants.c.grantee == principals.c.name)
    return _count(connection, principals, account, or_(principals.c.deleted_us.is_(None), granted)) >= count


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
    total = sealed_rows.set_keys(connection).total(_held(connection, account))
    values = _values(connection, account, total)
    connection.execute(accounts.update().where(accounts.c.account == account).values(values))


def _key(account: str) -> tuple[str, str]:
    return "contents", account


def _values(connection: Connection, account: str, total: int) -> dict[str, Any]:
    hidden = sealed_rows.set_keys(connection).hidden(total, f"accounts/{account}")
    return {"contents": hidden, "contents_revision": changes.current(connection)}


def _held(connection: Connection, account: str) -> Sequence[object]:
    return connection.execute(union_all(*_seals(account))).scalars().all()


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
