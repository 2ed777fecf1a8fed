"""The names of principals that ended, which nobody bears again: SQL and nothing else.

A name is kept as part of its hash, among those of its bucket, each bucket a row: what an account holds does not grow
with all that it ever held. What is read was verified.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, exists, select

from services.keystore.access.records import contents
from services.keystore.access.records.resources import account_of
from services.keystore.access.records.tables import ended_names, grants, principals
from services.runtime.storage import sealed_rows

_BUCKETS = 4_096
_BYTES = 16


def is_taken(connection: Connection, name: str) -> bool:
    """Whether a principal that ended had this name. Raises ACCESS_RECORD_REFUSED.

    Names can be chosen to be of one bucket, however many: look before a change has its number, for which everybody
    waits.
    """
    bucket, hashed = _place(name)
    kept = _kept(connection, account_of(name), bucket)
    found = kept.find(hashed)
    while found % _BYTES and found >= 0:
        found = kept.find(hashed, found + 1)
    return found >= 0


def fold(connection: Connection, account: str, limit: int) -> None:
    """Keeps nothing but their names of principals that were deleted and have no grants any more, up to so many."""
    granted = exists().where(grants.c.grantee == principals.c.name)
    ended = (principals.c.account == account, principals.c.deleted_us.is_not(None), ~granted)
    rows = connection.execute(select(principals).where(*ended).limit(limit)).all()
    names = [row.name for row in sealed_rows.good(connection, principals, rows)]
    if names:
        _keep(connection, account, names)
        contents.delete(connection, account, principals, [principals.c.name.in_(names)])


def _keep(connection: Connection, account: str, names: Sequence[str]) -> None:
    added: dict[int, list[bytes]] = defaultdict(list)
    for name in names:
        bucket, hashed = _place(name)
        added[bucket].append(hashed)
    for bucket, hashes in added.items():
        kept = _kept(connection, account, bucket)
        whole = kept + b"".join(hashes)
        if kept:
            contents.update(connection, account, ended_names, _is(account, bucket), {"names": whole})
        else:
            row = {"account": account, "bucket": bucket, "names": whole}
            contents.insert(connection, account, ended_names, [row])


def _kept(connection: Connection, account: str, bucket: int) -> bytes:
    row = connection.execute(select(ended_names).where(*_is(account, bucket))).one_or_none()
    if row is None:
        return b""
    sealed_rows.require(connection, ended_names, row, f"accounts/{account}'s names")
    return bytes(row.names)


def _is(account: str, bucket: int) -> Sequence[ColumnElement[bool]]:
    found: Any = ended_names.c
    return found.account == account, found.bucket == bucket


def _place(name: str) -> tuple[int, bytes]:
    """The bucket of a name, and what of its hash stands there."""
    hashed = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(hashed[-2:]) % _BUCKETS, hashed[:_BYTES]
