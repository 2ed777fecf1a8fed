"""Which account each SPIFFE id was given to by the mesh's administrators: SQL and nothing else. What is read was
verified: functions that read raise ACCESS_RECORD_REFUSED for what keystore did not write.

A prefix that ends with `/` is every id below it; another is that id alone. The longest one decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, select

from services.keystore.access.records import contents
from services.keystore.access.records.tables import given_spiffe_ids
from services.runtime.storage import sealed_rows

_SCHEME = "spiffe://"


def holder(connection: Connection, spiffe_id: str) -> str | None:
    """The id of the account that a SPIFFE id was given to."""
    found = connection.execute(select(given_spiffe_ids).where(given_spiffe_ids.c.prefix.in_(_covering(spiffe_id))))
    nearest = max(found.all(), key=lambda row: len(row.prefix), default=None)
    if nearest is None:
        return None
    sealed_rows.require(connection, given_spiffe_ids, nearest, nearest.prefix)
    account: str = nearest.account
    return account


def of_accounts(connection: Connection, accounts: Collection[str]) -> Mapping[str, Sequence[str]]:
    """What was given to each of these accounts, in order."""
    given = select(given_spiffe_ids).where(given_spiffe_ids.c.account.in_(accounts))
    found: dict[str, list[str]] = defaultdict(list)
    for row in connection.execute(given.order_by(given_spiffe_ids.c.prefix)).all():
        sealed_rows.require(connection, given_spiffe_ids, row, row.prefix)
        found[row.account].append(row.prefix)
    return found


def owner(connection: Connection, prefix: str) -> str | None:
    """The id of the account that exactly this was given to."""
    given = select(given_spiffe_ids.c.account).where(given_spiffe_ids.c.prefix == prefix)
    return connection.execute(given).scalar_one_or_none()


def give(connection: Connection, account: str, prefixes: Sequence[str]) -> None:
    """Makes these what an account was given. Raises IntegrityError for one that another account has."""
    contents.delete(connection, account, given_spiffe_ids, [given_spiffe_ids.c.account == account])
    rows = [{"prefix": prefix, "account": account} for prefix in prefixes]
    contents.insert(connection, account, given_spiffe_ids, rows)


def take(connection: Connection, prefix: str) -> None:
    """Takes a prefix from whatever account has it."""
    account = owner(connection, prefix)
    if account is not None:
        contents.delete(connection, account, given_spiffe_ids, [given_spiffe_ids.c.prefix == prefix])


def _covering(spiffe_id: str) -> list[str]:
    """Every prefix that the id is, or is below."""
    names = spiffe_id.removeprefix(_SCHEME).split("/")
    return [spiffe_id, *(f"{_SCHEME}{'/'.join(names[:count])}/" for count in range(1, len(names)))]
