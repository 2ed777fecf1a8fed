"""Filters of the secrets service's lists, as conditions in SQL."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import ColumnElement, and_, exists

from services.runtime.requests import filters
from services.runtime.storage.sql_filters import Condition, Field, begins_with, condition, enum
from services.secrets.core.tables import rotations, secrets, stages, versions
from strongroom.secrets.v1 import rotation_pb2 as r
from strongroom.secrets.v1 import secret_pb2 as s


def of_secrets(text: str) -> list[Condition]:
    """The conditions of a list of secrets; DELETED ones are not listed unless a state is asked for. Raises
    FIELD_INVALID."""
    terms = filters.parse(text, _SECRET_FIELDS, ("tags",))
    conditions = [condition(term, _SECRET_FIELDS, secrets.c.tags) for term in terms]
    if not any(term.field == "state" for term in terms):
        conditions.append(lambda _dialect: secrets.c.state != s.SECRET_STATE_DELETED)
    return conditions


def of_versions(text: str) -> list[Condition]:
    """The conditions of a list of versions. Raises FIELD_INVALID."""
    return [condition(term, _VERSION_FIELDS) for term in filters.parse(text, _VERSION_FIELDS)]


def of_rotations(text: str) -> list[Condition]:
    """The conditions of a list of rotations. Raises FIELD_INVALID."""
    return [condition(term, _ROTATION_FIELDS) for term in filters.parse(text, _ROTATION_FIELDS)]


def _stage(value: str) -> ColumnElement[bool]:
    at = and_(
        stages.c.account == versions.c.account,
        stages.c.secret_id == versions.c.secret_id,
        stages.c.version == versions.c.version,
        stages.c.stage == value,
    )
    return exists().where(at)


_ROTATION_STATE = enum(rotations.c.state, r.RotationState, "ROTATION_STATE_", "rotation_state")
_SECRET_FIELDS: Mapping[str, Field] = {
    "type": enum(secrets.c.type, s.SecretType, "SECRET_TYPE_", "type"),
    "state": enum(secrets.c.state, s.SecretState, "SECRET_STATE_", "state"),
    "key": lambda value: secrets.c.key_name == value,
    "id_prefix": begins_with(secrets.c.secret_id),
    "rotation_state": _ROTATION_STATE,
}
_VERSION_FIELDS: Mapping[str, Field] = {
    "state": enum(versions.c.state, s.SecretVersionState, "SECRET_VERSION_STATE_", "state"),
    "origin": enum(versions.c.origin, s.SecretVersionOrigin, "SECRET_VERSION_ORIGIN_", "origin"),
    "stage": _stage,
}
_ROTATION_FIELDS: Mapping[str, Field] = {
    "state": enum(rotations.c.state, r.RotationState, "ROTATION_STATE_", "state"),
    "trigger": enum(rotations.c.trigger, r.RotationTrigger, "ROTATION_TRIGGER_", "trigger"),
}
