"""Changes of secrets: each has the next number of one counter, in the transaction that makes it.

Watchers are told of those that have a kind. Whoever caches secrets follows all of them (`followed`), and hears of those
that its own process makes as soon as they are committed (`heard`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, Row, and_, delete, select

from services.runtime import changes as feed
from services.runtime.changes import ListChanges
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.storage import row_seals
from services.runtime.storage.database import after_commit
from services.runtime.storage.revisions import Revisions
from services.secrets.core.tables import changes, revision
from strongroom.secrets.v1.secret_service_pb2 import SECRET_CHANGE_UNSPECIFIED, SecretChange

log = logging.getLogger(__name__)

UNTOLD = SECRET_CHANGE_UNSPECIFIED
"""The kind of a change that matters to who reads values, such as one of tags, and that watchers are not told of."""

_FOLLOWED_AT_ONCE = 1_000
_HEARS = "hears_changes"
# More than are made between two looks at the counter.
_LEFT_OUT = 100_000

_revisions = Revisions(revision, changes, _LEFT_OUT)


Mark = bytes | None
"""What tells a change from another of the same number, and nobody without the service's key anything of it: its seal;
None where nothing is known of it."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a secret."""

    revision: int
    secret: ResourceName
    kind: SecretChange.ValueType
    version: int
    """The version concerned; 0 where none is."""
    stages: Mapping[str, int]
    """The version at each stage after the change."""
    changed_us: int
    mark: Mark = None


def heard(engine: Engine, hear: Callable[[feed.Change], None]) -> Engine:
    """This database, told of: `hear` gets every change that is committed through it."""
    return engine.execution_options(**{_HEARS: hear})


def followed(engine: Engine) -> ListChanges:
    """What a ChangeFeed of the database asks: the names of the secrets that changed."""

    def list_changes(since: int, /, *, timeout: float) -> feed.Changes:
        # The database has time limits of its own.
        del timeout
        return _revisions.listed(engine, since, partial(_named_since, seen=since))

    return list_changes


def note(
    connection: Connection,
    secret: ResourceName,
    kind: SecretChange.ValueType,
    version: int,
    stages: Mapping[str, int],
    now_us: int,
) -> None:
    """Gives a change its number. From here to the commit no other change can be made, so all see them in order."""
    change = {
        "account": secret.account,
        "secret_id": secret.id,
        "kind": kind,
        "version": version,
        "stages": json.dumps(dict(stages), sort_keys=True),
        "changed_us": now_us,
    }
    number = _revisions.note(connection, change)
    hear = connection.get_execution_options().get(_HEARS)
    if hear is not None:
        after_commit(connection, partial(hear, feed.Change(number, str(secret))))


def start_over(connection: Connection) -> None:
    """Has whoever caches secrets start over: leaves numbers out."""
    _revisions.start_over(connection)


def current(connection: Connection) -> int:
    """The number of the last change."""
    return _revisions.current(connection)


def since(connection: Connection, seen: int, limit: int) -> list[Change]:
    """What changed after `seen` that watchers are told of, oldest first."""
    told = and_(changes.c.revision > seen, changes.c.kind != UNTOLD)
    ordered = select(changes).where(told).order_by(changes.c.revision).limit(limit)
    found = [_change(connection, row) for row in connection.execute(ordered).all()]
    return [change for change in found if change is not None]


def mark(connection: Connection, number: int) -> Mark:
    """What tells the change of a number from another of the same number, as after a restore; None where it is not kept,
    or there never was one."""
    row = connection.execute(select(changes).where(changes.c.revision == number)).one_or_none()
    return _mark_of(row) if row is not None else None


def went_back(connection: Connection, seen: int, seen_mark: Mark) -> bool:
    """Whether the counter is not the one that was at `seen`: put back, even if it has come past that meanwhile, or
    further on than changes are kept."""
    now = current(connection)
    if now < seen:
        return True
    there = mark(connection, seen)
    if there is None:
        return now > seen and oldest(connection) > seen + 1
    return seen_mark is not None and there != seen_mark


def oldest(connection: Connection) -> int:
    """The number of the oldest change that is still kept; one more than the last where none is."""
    kept = connection.execute(select(changes.c.revision).order_by(changes.c.revision).limit(1)).scalar()
    return int(kept) if kept is not None else current(connection) + 1


def forget(connection: Connection, before_us: int) -> None:
    """Removes what changed earlier."""
    connection.execute(delete(changes).where(changes.c.changed_us < before_us))


def _change(connection: Connection, row: Row[Any]) -> Change | None:
    """A change; None for one that somebody else wrote, which keeps none of the others back."""
    name = ResourceName(row.account, "secrets", row.secret_id)
    try:
        row_seals.of(connection).verify(changes, row._mapping, f"change {row.revision} of {name}")
    except StrongroomError as error:
        if error.reason is not Reason.SECRET_RECORD_REFUSED:
            raise
        log.warning(
            "a row in the table of changes was not written by this service; it is ignored",
            extra={"fields": {"revision": str(row.revision)}},
        )
        return None
    stages = json.loads(row.stages)
    return Change(row.revision, name, row.kind, row.version, stages, row.changed_us, _mark_of(row))


def _mark_of(row: Row[Any]) -> Mark:
    return row_seals.seal_bytes(row.seal) or None


def _named_since(connection: Connection, seen: int) -> list[feed.Change]:
    return [
        feed.Change(row["revision"], str(ResourceName(row["account"], "secrets", row["secret_id"])))
        for row in _revisions.since(connection, seen, _FOLLOWED_AT_ONCE)
    ]
