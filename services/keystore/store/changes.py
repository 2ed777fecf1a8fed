"""The revision counter: every change has the next number, in the transaction that makes it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sqlalchemy import Connection, Engine, delete

from services.keystore.store.tables import changes, revision
from services.runtime.changes import Change, Changes
from services.runtime.storage.revisions import Revisions
from strongroom.keystore.v1.key_record_service_pb2 import ChangeKind

KEPT = 100_000
"""How many changes can be asked for. Services poll several times a second: who is further behind was away for long, or
is new, and has little to remember."""

_PRUNE_EVERY = 1_000

_revisions = Revisions(revision, changes, KEPT + 1)


def note(
    connection: Connection, kind: ChangeKind.ValueType, resource: str, account: str = "", key_uid: bytes = b""
) -> int:
    """Gives a change its number. From here to the commit no other change can be made, so readers see them in order."""
    return note_all(connection, [(kind, resource, account, key_uid)])[0]


def note_all(connection: Connection, noted: Sequence[tuple[ChangeKind.ValueType, str, str, bytes]]) -> Sequence[int]:
    """Gives changes, each what `note` takes, the next numbers."""
    numbers = _revisions.note_all(
        connection, [dict(zip(("kind", "resource", "account", "key_uid"), one, strict=True)) for one in noted]
    )
    if any(number % _PRUNE_EVERY == 0 for number in numbers):
        connection.execute(delete(changes).where(changes.c.revision <= numbers[-1] - KEPT))
    return numbers


def start_over(connection: Connection) -> None:
    """Has everybody who has seen any change start over: leaves out more numbers than are kept."""
    _revisions.start_over(connection)


def current(connection: Connection) -> int:
    """The number of the last change."""
    return _revisions.current(connection)


def since(engine: Engine, seen: int, limit: int) -> Changes:
    """What changed after the revision `seen`, oldest first, or that the caller has to start over because some of that
    is not there as it was written, or the counter went back; LATEST asks for the current revision alone."""
    return _revisions.listed(engine, seen, partial(read, seen=seen, limit=limit))


def read(connection: Connection, seen: int, limit: int) -> list[Change]:
    """What is kept of changes after the revision `seen`, oldest first, as it was written."""
    found = _revisions.since(connection, seen, limit)
    return [Change(row["revision"], row["resource"], row["kind"], row["account"], row["key_uid"]) for row in found]
