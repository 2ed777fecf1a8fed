"""What watchers of secrets are told: every change has the next number, in the transaction that makes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from services.runtime.names import ResourceName
from services.secrets.tables import changes, revision
from strongroom.secrets.v1.secret_service_pb2 import SecretChange


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


def note(
    connection: Connection,
    secret: ResourceName,
    kind: SecretChange.ValueType,
    version: int,
    stages: Mapping[str, int],
    now_us: int,
) -> None:
    """Gives a change its number. From here to the commit no other change can be made, so watchers see them in order."""
    number: int = connection.execute(
        update(revision).values(revision=revision.c.revision + 1).returning(revision.c.revision)
    ).scalar_one()
    connection.execute(
        insert(changes).values(
            revision=number,
            account=secret.account,
            secret_id=secret.id,
            kind=kind,
            version=version,
            stages=json.dumps(dict(stages), sort_keys=True),
            changed_us=now_us,
        )
    )


def current(connection: Connection) -> int:
    """The number of the last change."""
    return int(connection.execute(select(revision.c.revision)).scalar_one())


def since(connection: Connection, seen: int, limit: int) -> list[Change]:
    """What changed after `seen`, oldest first."""
    ordered = select(changes).where(changes.c.revision > seen).order_by(changes.c.revision).limit(limit)
    return [
        Change(
            row.revision,
            ResourceName(row.account, "secrets", row.secret_id),
            row.kind,
            row.version,
            json.loads(row.stages),
            row.changed_us,
        )
        for row in connection.execute(ordered)
    ]


def oldest(connection: Connection) -> int:
    """The number of the oldest change that is still kept; one more than the last where none is."""
    kept = connection.execute(select(changes.c.revision).order_by(changes.c.revision).limit(1)).scalar()
    return int(kept) if kept is not None else current(connection) + 1


def forget(connection: Connection, before_us: int) -> None:
    """Removes what changed earlier."""
    connection.execute(delete(changes).where(changes.c.changed_us < before_us))
