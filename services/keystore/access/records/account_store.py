"""Accounts in the database: SQL and nothing else. What is read was verified: functions that read raise
ACCESS_RECORD_REFUSED for what keystore did not write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from services.keystore.access.records import contents, given_ids
from services.keystore.access.records.resources import Account, account_of
from services.keystore.access.records.tables import accounts
from services.keystore.store.store import tags_text
from services.runtime.storage import sealed_rows
from services.runtime.storage.sql_filters import Condition


def account(connection: Connection, name: str) -> Account | None:
    """The account of this name."""
    row = connection.execute(select(accounts).where(accounts.c.account == account_of(name))).one_or_none()
    return next(iter(_accounts(connection, [row] if row is not None else [])), None)


def accounts_page(connection: Connection, after: str, limit: int, conditions: Sequence[Condition]) -> list[Account]:
    """Accounts that meet the conditions, in the order of their ids, from the first behind `after`."""
    met = [condition(connection.dialect.name) for condition in conditions]
    ordered = select(accounts).where(accounts.c.account > after, *met).order_by(accounts.c.account)
    return _accounts(connection, connection.execute(ordered.limit(limit)).all())


def insert_account(connection: Connection, added: Account) -> None:
    """Adds an account. Raises IntegrityError when the id, or a prefix of SPIFFE ids, is taken."""
    values = {**_values(added), "account": account_of(added.name), "created_us": added.created_us}
    values |= {"contents": contents.NOTHING, "contents_revision": 0}
    sealed_rows.insert(connection, accounts, [values])
    if added.spiffe_id_prefixes:
        given_ids.give(connection, account_of(added.name), added.spiffe_id_prefixes)


def update_account(connection: Connection, changed: Account) -> None:
    """Puts an account in the place of what it was. Raises IntegrityError when a prefix of SPIFFE ids is taken."""
    account = account_of(changed.name)
    if tuple(given_ids.of_accounts(connection, [account]).get(account, ())) != changed.spiffe_id_prefixes:
        given_ids.give(connection, account, changed.spiffe_id_prefixes)
    sealed_rows.update(connection, accounts, [accounts.c.account == account], _values(changed))


def _values(of: Account) -> dict[str, Any]:
    return {
        "display_name": of.display_name,
        "tags": tags_text(of.tags),
        "disabled": of.disabled,
        "revision": of.revision,
        "updated_us": of.updated_us,
    }


def _accounts(connection: Connection, rows: Sequence[Row[Any]]) -> list[Account]:
    for row in rows:
        sealed_rows.require(connection, accounts, row, f"accounts/{row.account}")
    given = given_ids.of_accounts(connection, [row.account for row in rows])
    return [
        Account(
            f"accounts/{row.account}",
            row.display_name,
            json.loads(row.tags),
            row.disabled,
            row.revision,
            row.created_us,
            row.updated_us,
            tuple(given.get(row.account, ())),
        )
        for row in rows
    ]
