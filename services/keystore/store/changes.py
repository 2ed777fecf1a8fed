"""The revision counter: every change has the next number, in the transaction that makes it."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select, update

from services.keystore.store.tables import changes, revision
from services.runtime.changes import Change, Changes, answer
from strongroom.keystore.v1.key_record_service_pb2 import ChangeKind

KEPT = 100_000
"""How many changes can be asked for. Services poll several times a second: who is further behind was away for long, or
is new, and has little to remember."""

_PRUNE_EVERY = 1_000


def note(
    connection: Connection, kind: ChangeKind.ValueType, resource: str, account: str = "", key_uid: bytes = b""
) -> int:
    """Gives a change its number. From here to the commit no other change can be made, so readers see them in order."""
    number: int = connection.execute(
        update(revision).values(revision=revision.c.revision + 1).returning(revision.c.revision)
    ).scalar_one()
    connection.execute(
        insert(changes).values(revision=number, kind=kind, resource=resource, account=account, key_uid=key_uid)
    )
    if number % _PRUNE_EVERY == 0:
        connection.execute(delete(changes).where(changes.c.revision <= number - KEPT))
    return number


def start_over(connection: Connection) -> None:
    """Has everybody who has seen any change start over: leaves out more numbers than are kept."""
    connection.execute(update(revision).values(revision=revision.c.revision + KEPT + 1))


def current(connection: Connection) -> int:
    """The number of the last change."""
    return int(connection.execute(select(revision.c.revision)).scalar_one())


def since(connection: Connection, seen: int, limit: int) -> Changes:
    """What changed after the revision `seen`, oldest first, or that the caller has to start over because some of that
    is not kept any more; LATEST asks for the current revision alone."""

    def read() -> list[Change]:
        ordered = select(changes).where(changes.c.revision > seen).order_by(changes.c.revision).limit(limit)
        return [
            Change(row.revision, row.resource, row.kind, row.account, row.key_uid)
            for row in connection.execute(ordered)
        ]

    return answer(seen, current(connection), read)
