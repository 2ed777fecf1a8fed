"""Keys that have something to be done by a time, as their rows say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, func, select

from services.keystore.store.tables import key_versions, keys
from strongroom.keystore.v1.key_pb2 import (
    KEY_ORIGIN_STRONGROOM,
    KEY_STATE_ENABLED,
    KEY_VERSION_STATE_PENDING_DESTRUCTION,
)


@dataclass(frozen=True, slots=True)
class DueKey:
    """A key, whose it is, and since when or until when."""

    uid: bytes
    account: str
    due_us: int


def deletions_due(connection: Connection, until_us: int, limit: int, share: int | None = None) -> list[DueKey]:
    """Keys that are to be destroyed by then, soonest first; with a share, no more of one account."""
    return _of_keys(connection, keys.c.delete_us, until_us, limit, share)


def rotations_due(connection: Connection, until_us: int, limit: int, share: int | None = None) -> list[DueKey]:
    """Keys that are to be rotated by then, soonest first; with a share, no more of one account."""
    return _of_keys(connection, keys.c.next_rotate_us, until_us, limit, share)


def expiries_due(connection: Connection, until_us: int, limit: int, share: int | None = None) -> list[DueKey]:
    """Keys that have versions whose imported material expires by then, with the time of the first, soonest first; with
    a share, no more of one account."""
    return _of_versions(connection, key_versions.c.expires_us, until_us, limit, share)


def destructions_due(connection: Connection, until_us: int, limit: int, share: int | None = None) -> list[DueKey]:
    """Keys that have versions to be destroyed by then, with the time of the first, soonest first; with a share, no more
    of one account."""
    planned = key_versions.c.state == KEY_VERSION_STATE_PENDING_DESTRUCTION
    return _of_versions(connection, key_versions.c.destroyed_us, until_us, limit, share, planned)


def near_message_limit(connection: Connection, message_count: int, limit: int) -> list[DueKey]:
    """Keys made here that are ENABLED and whose primary version has encrypted so many messages; since when is not
    known."""
    primary = and_(key_versions.c.uid == keys.c.uid, key_versions.c.version == keys.c.primary_version)
    used_up = select(keys.c.uid, keys.c.account).join(key_versions, primary)
    rotating = (keys.c.state == KEY_STATE_ENABLED, keys.c.origin == KEY_ORIGIN_STRONGROOM)
    found = connection.execute(used_up.where(key_versions.c.message_count >= message_count, *rotating).limit(limit))
    return [DueKey(row.uid, row.account, 0) for row in found]


def _of_keys(connection: Connection, at: Any, until_us: int, limit: int, share: int | None) -> list[DueKey]:
    due = select(keys.c.uid, keys.c.account, at.label("due_us")).where(at <= until_us)
    return _soonest(connection, due, limit, share)


def _of_versions(
    connection: Connection, at: Any, until_us: int, limit: int, share: int | None, *conditions: Any
) -> list[DueKey]:
    first = func.min(at).label("due_us")
    due = select(key_versions.c.uid, keys.c.account, first).join(keys, keys.c.uid == key_versions.c.uid)
    grouped = due.where(at <= until_us, *conditions).group_by(key_versions.c.uid, keys.c.account)
    return _soonest(connection, grouped, limit, share)


def _soonest(connection: Connection, due: Select[Any], limit: int, share: int | None) -> list[DueKey]:
    found: Any = due.subquery()
    if share is not None:
        place = func.row_number().over(partition_by=found.c.account, order_by=found.c.due_us).label("place")
        ranked = select(found, place).subquery()
        found = select(ranked).where(ranked.c.place <= share).subquery()
    rows: Sequence[Any] = connection.execute(select(found).order_by(found.c.due_us).limit(limit)).all()
    return [DueKey(row.uid, row.account, row.due_us) for row in rows]
