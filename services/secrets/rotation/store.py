"""Rotations and their attempts in the database: SQL and nothing else, inside the caller's transaction.

Whoever changes a rotation holds the lock on its secret (`store.secret` with `lock`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, insert, or_, select, tuple_

from services.runtime.requests.names import ResourceName
from services.runtime.storage import row_seals, statements
from services.runtime.storage.row_seals import SEAL
from services.runtime.storage.sql_filters import Condition
from services.runtime.storage.statements import change, named
from services.secrets.core.model import Attempt, Rotation
from services.secrets.core.tables import attempts, rotations
from strongroom.secrets.v1.rotation_pb2 import ROTATION_STATE_WAITING, RotationStep

KEPT_ATTEMPTS = 50
"""Of each step of a rotation the first attempt is kept, and so many of the latest."""

_FAR_US = 3_600_000_000
_KEYS = ("account", "secret_id", "number")
_ATTEMPTS = ("account", "secret_id", "rotation")
_OF_ROTATION = [column.name for column in rotations.c if column.name not in (*_KEYS, SEAL)]
_OF_ATTEMPT = [column.name for column in attempts.c if column.name not in (*_ATTEMPTS, SEAL)]

_ADD_ROTATION, _ADD_ATTEMPT = insert(rotations), insert(attempts)
_CHANGE_ROTATION = change(rotations, *_KEYS)
_CHANGE_ATTEMPT = change(attempts, *_ATTEMPTS, "ordinal")
_ROTATION = select(rotations).where(statements.of(rotations, *_KEYS))
_ATTEMPTS_OF = statements.of(attempts, *_ATTEMPTS)
_LAST_ATTEMPT = select(attempts).where(_ATTEMPTS_OF).order_by(attempts.c.ordinal.desc()).limit(1)
_LATEST_NUMBER = select(func.max(attempts.c.number)).where(_ATTEMPTS_OF, statements.of(attempts, "step"))


def insert_rotation(connection: Connection, added: Rotation) -> None:
    """Adds a rotation."""
    connection.execute(_ADD_ROTATION, _columns(connection, added))


def update_rotation(connection: Connection, changed: Rotation) -> None:
    """Writes a rotation as it now is."""
    values = {column: value for column, value in _columns(connection, changed).items() if column not in _KEYS}
    connection.execute(_CHANGE_ROTATION, values | _of(changed.secret, changed.number))


def rotation(connection: Connection, secret: ResourceName, number: int) -> Rotation | None:
    """A rotation of a secret by its number."""
    row = connection.execute(_ROTATION, _of(secret, number)).one_or_none()
    return _rotation(connection, row) if row is not None else None


def rotations_page(
    connection: Connection, secret: ResourceName, before: int, limit: int, conditions: Sequence[Condition]
) -> list[Rotation]:
    """A secret's rotations that meet the conditions, newest first, from the first below `before`."""
    met = [condition(connection.dialect.name) for condition in conditions]
    of_secret = and_(rotations.c.account == secret.account, rotations.c.secret_id == secret.id)
    ordered = select(rotations).where(of_secret, rotations.c.number < before, *met)
    rows = connection.execute(ordered.order_by(rotations.c.number.desc()).limit(limit)).all()
    return [_rotation(connection, row) for row in rows]


def attempts_due(connection: Connection, until_us: int, limit: int) -> list[tuple[ResourceName, int]]:
    """Secrets whose rotation is to be worked on until then, with the time of it, soonest first."""
    due = select(rotations.c.account, rotations.c.secret_id, rotations.c.next_attempt_us)
    rows = connection.execute(
        due.where(rotations.c.next_attempt_us <= until_us).order_by(rotations.c.next_attempt_us).limit(limit)
    )
    return [(ResourceName(row.account, "secrets", row.secret_id), row.next_attempt_us) for row in rows]


def attempts_overdue(
    connection: Connection, before_us: int, taken_us: int, limit: int, share: int
) -> list[tuple[ResourceName, int, bool]]:
    """Secrets whose rotation was to be worked on before then, and that nobody has taken up since `taken_us`: with its
    fencing token, which is the time when it was, and whether it waits for its next try. No more than a share are of one
    account."""
    left = or_(
        rotations.c.state == ROTATION_STATE_WAITING,
        rotations.c.fencing_token <= taken_us,
        # By nobody's clock.
        rotations.c.fencing_token > before_us + _FAR_US,
    )
    at = rotations.c.next_attempt_us
    place = func.row_number().over(partition_by=rotations.c.account, order_by=at).label("place")
    due = select(rotations.c.account, rotations.c.secret_id, rotations.c.fencing_token, rotations.c.state, at, place)
    ranked = due.where(at <= before_us, left).subquery()
    shared = select(ranked).where(ranked.c.place <= share).order_by(ranked.c.next_attempt_us)
    rows = connection.execute(shared.limit(limit))
    return [
        (ResourceName(row.account, "secrets", row.secret_id), row.fencing_token, row.state == ROTATION_STATE_WAITING)
        for row in rows
    ]


def insert_attempt(connection: Connection, of: Rotation, added: Attempt) -> None:
    """Adds an attempt, and forgets one between the first and the latest of its step."""
    connection.execute(_ADD_ATTEMPT, _attempt_columns(connection, of, added))
    outdated = added.number - KEPT_ATTEMPTS
    if outdated > 1:
        in_step = and_(attempts.c.step == added.step, attempts.c.number > 1, attempts.c.number <= outdated)
        connection.execute(delete(attempts).where(_ATTEMPTS_OF, in_step), _attempts_of(of))


def end_attempt(connection: Connection, of: Rotation, ended: Attempt) -> None:
    """Writes how an attempt ended."""
    values = _attempt_columns(connection, of, ended)
    connection.execute(_CHANGE_ATTEMPT, values | _attempts_of(of) | named(ordinal=ended.ordinal))


def last_attempt(connection: Connection, of: Rotation) -> Attempt | None:
    """The latest attempt of a rotation."""
    row = connection.execute(_LAST_ATTEMPT, _attempts_of(of)).one_or_none()
    return _attempt(connection, row) if row is not None else None


def attempts_in_step(connection: Connection, of: Rotation, step: RotationStep.ValueType) -> int:
    """The number of a step's latest attempt; 0 before the first."""
    return int(connection.execute(_LATEST_NUMBER, _attempts_of(of) | named(step=step)).scalar() or 0)


def attempts_of(connection: Connection, found: Sequence[Rotation]) -> dict[int, list[Attempt]]:
    """What was tried in rotations of one secret, oldest first, by their numbers."""
    if not found:
        return {}
    secret = found[0].secret
    wanted = and_(
        attempts.c.account == secret.account,
        attempts.c.secret_id == secret.id,
        attempts.c.rotation.in_([each.number for each in found]),
    )
    result: dict[int, list[Attempt]] = {}
    for row in connection.execute(select(attempts).where(wanted).order_by(attempts.c.ordinal)):
        result.setdefault(row.rotation, []).append(_attempt(connection, row))
    return result


def forget_rotations(connection: Connection, ended_before_us: int, limit: int) -> None:
    """Removes rotations that ended earlier, with their attempts."""
    old = select(rotations.c.account, rotations.c.secret_id, rotations.c.number)
    found = connection.execute(old.where(rotations.c.ended_us < ended_before_us).limit(limit)).all()
    if found:
        of_old = tuple_(attempts.c.account, attempts.c.secret_id, attempts.c.rotation).in_(found)
        connection.execute(delete(attempts).where(of_old))
        ended = tuple_(rotations.c.account, rotations.c.secret_id, rotations.c.number).in_(found)
        connection.execute(delete(rotations).where(ended))


def _of(secret: ResourceName, number: int) -> dict[str, object]:
    return named(account=secret.account, secret_id=secret.id, number=number)


def _attempts_of(of: Rotation) -> dict[str, object]:
    return named(account=of.secret.account, secret_id=of.secret.id, rotation=of.number)


def _columns(connection: Connection, record: Rotation) -> dict[str, Any]:
    columns = {
        "account": record.secret.account,
        "secret_id": record.secret.id,
        "number": record.number,
        **{name: getattr(record, name) for name in _OF_ROTATION},
    }
    return columns | {SEAL: row_seals.of(connection).seal(rotations, columns)}


def _attempt_columns(connection: Connection, of: Rotation, record: Attempt) -> dict[str, Any]:
    columns = {
        "account": of.secret.account,
        "secret_id": of.secret.id,
        "rotation": of.number,
        **{name: getattr(record, name) for name in _OF_ATTEMPT},
    }
    return columns | {SEAL: row_seals.of(connection).seal(attempts, columns)}


def _rotation(connection: Connection, row: Row[Any]) -> Rotation:
    fields = dict(row._mapping)  # SQLAlchemy's public name for it
    secret = ResourceName(fields.pop("account"), "secrets", fields.pop("secret_id"))
    row_seals.of(connection).verify(rotations, row._mapping, f"{secret}/rotations/{row.number}")
    del fields[SEAL]
    return Rotation(secret=secret, **fields)


def _attempt(connection: Connection, row: Row[Any]) -> Attempt:
    fields = dict(row._mapping)
    of = f"{fields.pop('account')}/secrets/{fields.pop('secret_id')}/rotations/{fields.pop('rotation')}"
    row_seals.of(connection).verify(attempts, row._mapping, f"accounts/{of}")
    del fields[SEAL]
    return Attempt(**fields)
