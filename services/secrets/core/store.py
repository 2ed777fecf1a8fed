"""The secrets' database: SQL and nothing else. Every function works inside its caller's transaction.

What is read was verified (services/runtime/storage/row_seals.py): every function that reads raises
SECRET_RECORD_REFUSED for a row that this service did not write as it is, and RECORD_KEY_UNAVAILABLE while
that cannot be told.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from services.runtime.requests.names import ResourceName
from services.runtime.storage import row_seals
from services.runtime.storage.row_seals import SEAL
from services.runtime.storage.sql_filters import Condition
from services.runtime.storage.statements import change, named, of
from services.secrets.core.model import SealedVersion, Secret, Version
from services.secrets.core.tables import rotations, secrets, stages, versions
from strongroom.secrets.v1.password_rule_pb2 import PasswordRule
from strongroom.secrets.v1.rotation_pb2 import ROTATION_STATE_UNSPECIFIED, RotationPolicy
from strongroom.secrets.v1.secret_pb2 import (
    SECRET_STATE_PENDING_DELETION,
    SECRET_VERSION_STATE_DESTROYED,
    SecretType,
    TargetBinding,
)
from strongroom.secrets.v1.target_pb2 import RotationTarget

# Names in one statement.
_MANY = 500
_VERSION_COLUMNS = [column for column in versions.c if column.name != "sealed"]


def secret(connection: Connection, name: ResourceName, *, lock: bool = False) -> Secret | None:
    """A secret, if there is one of this name; with `lock` nobody else changes it until the transaction ends."""
    if lock:
        # Locked by itself: PostgreSQL locks no outer join.
        connection.execute(_LOCKED, _named(name))
    row = connection.execute(_SECRET, _named(name)).one_or_none()
    at = connection.execute(_STAGES, _named(name)).all()  # of one that there is not, too: it takes as long
    if row is None:
        return None
    # Rows, not pairs, to the type checker.
    return _secret(connection, row, {stage: version for stage, version in at})  # noqa: C416


def secret_type(connection: Connection, name: ResourceName) -> SecretType.ValueType | None:
    """A secret's type, if there is one of this name."""
    found: SecretType.ValueType | None = connection.execute(select(secrets.c.type).where(_of(secrets, name))).scalar()
    return found


def secrets_page(
    connection: Connection, account: str, after: str, limit: int, conditions: Sequence[Condition]
) -> list[Secret]:
    """An account's secrets that meet the conditions, in the order of their ids, from the first behind `after`."""
    met = [condition(connection.dialect.name) for condition in conditions]
    ordered = _secrets().where(secrets.c.account == account, secrets.c.secret_id > after, *met)
    rows = connection.execute(ordered.order_by(secrets.c.secret_id).limit(limit)).all()
    return _with_stages(connection, account, rows)


def secrets_of(connection: Connection, names: Iterable[ResourceName]) -> dict[ResourceName, Secret]:
    """The secrets of one account that there are of these names."""
    wanted = list(names)
    rows: list[Row[Any]] = []
    for first in range(0, len(wanted), _MANY):
        ids = [name.id for name in wanted[first : first + _MANY]]
        of_these = and_(secrets.c.account == wanted[0].account, secrets.c.secret_id.in_(ids))
        rows += connection.execute(_secrets().where(of_these)).all()
    return {secret.name: secret for secret in _with_stages(connection, wanted[0].account, rows)}


def users_of_master(connection: Connection, name: ResourceName) -> list[str]:
    """The ids of secrets whose master secret this is, without those whose values are destroyed."""
    using = and_(
        secrets.c.account == name.account,
        secrets.c.master_id == name.id,
        secrets.c.state <= SECRET_STATE_PENDING_DELETION,
    )
    return list(connection.execute(select(secrets.c.secret_id).where(using).limit(3)).scalars())


def deletions_due(
    connection: Connection, until_us: int, limit: int, share: int | None = None
) -> list[tuple[ResourceName, int]]:
    """Secrets whose values are to be destroyed until then, with the time of it, soonest first; with a share, no more of
    one account."""
    return _due(connection, secrets.c.delete_us, until_us, limit, share)


def rotations_due(
    connection: Connection, until_us: int, limit: int, share: int | None = None
) -> list[tuple[ResourceName, int]]:
    """Secrets that their policy rotates until then, with the time of it, soonest first; with a share, no more of one
    account."""
    return _due(connection, secrets.c.next_rotate_us, until_us, limit, share, secrets.c.active_rotation == 0)


def sealed_version(connection: Connection, secret: Secret, number: int) -> SealedVersion | None:
    """A version of a secret with its sealed value, if there is one of this number."""
    row = connection.execute(_SEALED, _named(secret.name) | named(version=number)).one_or_none()
    found = _standing(connection, secret, number, row)
    return SealedVersion(found, row.data_key or b"", row.sealed or b"") if found is not None and row else None


def version(connection: Connection, secret: Secret, number: int) -> Version | None:
    """A version of a secret without its value, if there is one of this number."""
    row = connection.execute(_VERSION, _named(secret.name) | named(version=number)).one_or_none()
    return _standing(connection, secret, number, row)


def versions_page(
    connection: Connection, secret: Secret, before: int, limit: int, conditions: Sequence[Condition]
) -> list[Version]:
    """A secret's versions that meet the conditions, newest first, from the first below `before`."""
    met = [condition(connection.dialect.name) for condition in conditions]
    ordered = select(*_VERSION_COLUMNS).where(_of(versions, secret.name), versions.c.version < before, *met)
    rows = connection.execute(ordered.order_by(versions.c.version.desc()).limit(limit))
    found = [_standing(connection, secret, row.version, row) for row in rows]
    return [version for version in found if version is not None]


def insert_secret(connection: Connection, added: Secret) -> None:
    """Adds a secret without versions. Raises IntegrityError when the name is taken."""
    connection.execute(_ADD, _sealed_columns(connection, added))


def update_secret(connection: Connection, changed: Secret) -> None:
    """Writes a secret's record; stages are set by themselves."""
    connection.execute(_CHANGE, _sealed_columns(connection, changed) | _named(changed.name))


def lend(connection: Connection, name: ResourceName) -> None:
    """Notes in a secret's own record that it is the master of another, whose record may be changed by others."""
    found = secret(connection, name, lock=True)
    if found is not None and not found.lent:
        update_secret(connection, replace(found, lent=True))


def insert_version(connection: Connection, added: SealedVersion) -> None:
    """Adds a version. Raises IntegrityError when the number is taken."""
    version = added.version
    row = {
        "account": version.name.account,
        "secret_id": version.name.id,
        "version": version.name.version,
        "state": version.state,
        "origin": version.origin,
        "key_version": version.key_version,
        "format": version.format,
        "value_size": version.value_size,
        "data_key": added.data_key,
        "sealed": added.sealed,
        "created_us": version.created_us,
        "disabled_us": None,
        "destroyed_us": None,
        "revision": version.revision,
    }
    row[SEAL] = row_seals.of(connection).seal(versions, row)
    connection.execute(_ADD_VERSION, row)


def set_stages(connection: Connection, name: ResourceName, at: Mapping[str, int], before: Mapping[str, int]) -> None:
    """Puts the stages at the versions of `at`, where those of `before` were."""
    changed = [stage for stage in before.keys() | at.keys() if before.get(stage) != at.get(stage)]
    if not changed:
        return
    connection.execute(_TAKE_STAGES, _named(name) | {"changed": changed})
    rows = [
        {"account": name.account, "secret_id": name.id, "stage": stage, "version": at[stage]}
        for stage in changed
        if stage in at
    ]
    if rows:
        connection.execute(_ADD_STAGES, rows)


def update_version(connection: Connection, secret: Secret, changed: Version) -> Secret:
    """Writes whether a version's value is served; the secret as it is to be written."""
    values = {"state": changed.state, "disabled_us": changed.disabled_us}
    _rewrite_versions(connection, secret.name, [changed.name.version], values)
    number = changed.name.version
    return replace(secret, standing={**secret.standing, number: secret.standing[number] + 1})


def destroy_values(connection: Connection, secret: Secret, numbers: Iterable[int], now_us: int) -> Secret:
    """Forgets the values of versions for good; the secret as it is to be written."""
    forgotten = set(numbers)
    values = {"state": SECRET_VERSION_STATE_DESTROYED, "data_key": None, "sealed": None, "destroyed_us": now_us}
    _rewrite_versions(connection, secret.name, sorted(forgotten), values)
    left = {number: at for number, at in secret.standing.items() if number not in forgotten}
    return replace(secret, standing=left) if left != secret.standing else secret


def _of(table: Table, name: ResourceName) -> ColumnElement[bool]:
    return and_(table.c.account == name.account, table.c.secret_id == name.id)


def _secrets() -> Select[Any]:
    active = and_(
        rotations.c.account == secrets.c.account,
        rotations.c.secret_id == secrets.c.secret_id,
        rotations.c.number == secrets.c.active_rotation,
    )
    state = func.coalesce(rotations.c.state, ROTATION_STATE_UNSPECIFIED).label("rotation_state")
    return select(*secrets.c, state).select_from(secrets.outerjoin(rotations, active))


def _with_stages(connection: Connection, account: str, rows: Sequence[Row[Any]]) -> list[Secret]:
    wanted = and_(stages.c.account == account, stages.c.secret_id.in_([row.secret_id for row in rows]))
    at: dict[str, dict[str, int]] = {}
    for stage in connection.execute(select(stages).where(wanted)):
        at.setdefault(stage.secret_id, {})[stage.stage] = stage.version
    return [_secret(connection, row, at.get(row.secret_id, {})) for row in rows]


def _due(
    connection: Connection,
    column: ColumnElement[int],
    until_us: int,
    limit: int,
    share: int | None,
    *conditions: ColumnElement[bool],
) -> list[tuple[ResourceName, int]]:
    found = select(secrets.c.account, secrets.c.secret_id, column.label("due_us")).where(
        column <= until_us, *conditions
    )
    if share is None:
        rows = connection.execute(found.order_by(column).limit(limit))
    else:
        place = func.row_number().over(partition_by=secrets.c.account, order_by=column).label("place")
        ranked = found.add_columns(place).subquery()
        shared = select(ranked).where(ranked.c.place <= share).order_by(ranked.c.due_us)
        rows = connection.execute(shared.limit(limit))
    return [(ResourceName(row.account, "secrets", row.secret_id), row.due_us) for row in rows]


def seal_of_secret(connection: Connection, row: Mapping[str, Any], at: Mapping[str, int]) -> bytes:
    """The seal of a secret's row, whose stages are at these versions."""
    return row_seals.of(connection).seal(secrets, row, _stages_text(at))


def _sealed_columns(connection: Connection, record: Secret) -> dict[str, Any]:
    columns = _columns(record)
    return columns | {SEAL: seal_of_secret(connection, columns, record.stages)}


def _rewrite_versions(
    connection: Connection, name: ResourceName, numbers: Sequence[int], values: Mapping[str, Any]
) -> None:
    if not numbers:
        return
    seals = row_seals.of(connection)
    wanted = select(*_VERSION_COLUMNS).where(_of(versions, name), versions.c.version.in_(numbers))
    for found in connection.execute(wanted).mappings().all():
        changed = {**values, "revision": found["revision"] + 1}
        seals.verify(versions, found, f"{name}/versions/{found['version']}")
        changed[SEAL] = seals.seal(versions, {**found, **changed})
        connection.execute(
            update(versions).where(_of(versions, name), versions.c.version == found["version"]).values(changed)
        )


def _stages_text(at: Mapping[str, int]) -> str:
    return json.dumps(dict(at), sort_keys=True)


def _columns(record: Secret) -> dict[str, Any]:
    master = record.master
    return {
        "account": record.name.account,
        "secret_id": record.name.id,
        "type": record.type,
        "state": record.state,
        "lent": record.lent,
        "key_name": record.key,
        "description": record.description,
        "tags": json.dumps(dict(record.tags), sort_keys=True),
        "retained_versions": record.retained_versions,
        "latest_version": record.latest_version,
        "revision": record.revision,
        "created_us": record.created_us,
        "updated_us": record.updated_us,
        "delete_us": record.delete_us,
        "target": _serialized(record.target),
        "password_rule": _serialized(record.password_rule),
        "rotation_policy": _serialized(record.rotation_policy),
        "master_id": master.id if master is not None else "",
        "grace_period_s": record.grace_period_s,
        "rotation_count": record.rotation_count,
        "active_rotation": record.active_rotation,
        "next_rotate_us": record.next_rotate_us,
        "last_rotate_us": record.last_rotate_us,
        "standing": json.dumps(dict(record.standing), sort_keys=True),
        "allowed_destinations": json.dumps(record.allowed_destinations) if record.allowed_destinations else "",
        "target_binding": _serialized(record.target_binding),
    }


def _serialized(message: Message | None) -> bytes:
    return message.SerializeToString() if message is not None else b""


def _secret(connection: Connection, row: Row[Any], at: Mapping[str, int]) -> Secret:
    name, seals = ResourceName(row.account, "secrets", row.secret_id), row_seals.of(connection)
    seals.verify(secrets, row._mapping, name, _stages_text(at))
    seals.require_newest(name, row.revision)
    return Secret(
        name,
        row.type,
        row.state,
        row.key_name,
        row.description,
        json.loads(row.tags),
        row.retained_versions,
        row.latest_version,
        row.revision,
        row.created_us,
        row.updated_us,
        at,
        row.delete_us,
        RotationTarget.FromString(row.target) if row.target else None,
        PasswordRule.FromString(row.password_rule) if row.password_rule else None,
        RotationPolicy.FromString(row.rotation_policy) if row.rotation_policy else None,
        row.grace_period_s,
        row.rotation_count,
        row.active_rotation,
        row.rotation_state,
        row.next_rotate_us,
        row.last_rotate_us,
        {int(number): revision for number, revision in json.loads(row.standing).items()},
        tuple(json.loads(row.allowed_destinations)) if row.allowed_destinations else (),
        TargetBinding.FromString(row.target_binding) if row.target_binding else None,
        row.lent,
    )


def _standing(connection: Connection, secret: Secret, number: int, row: Row[Any] | None) -> Version | None:
    """A row of a version, once it is what the secret knows of it: neither missing, nor one of before."""
    seals, name = row_seals.of(connection), secret.version_name(number)
    if row is None:
        if 0 < number <= secret.latest_version:
            raise seals.refused(name)
        return None
    seals.verify(versions, row._mapping, name)
    version = _version(row)
    has_value = version.state != SECRET_VERSION_STATE_DESTROYED
    if secret.standing.get(number) != (version.revision if has_value else None):
        raise seals.refused(name)
    return version


def _version(row: Row[Any]) -> Version:
    return Version(
        ResourceName(row.account, "secrets", row.secret_id, row.version),
        row.state,
        row.origin,
        row.key_version,
        row.format,
        row.value_size,
        row.created_us,
        row.disabled_us,
        row.destroyed_us,
        row.revision,
    )


def _named(name: ResourceName) -> dict[str, object]:
    return named(account=name.account, secret_id=name.id)


_KEYS = ("account", "secret_id")
_LOCKED = select(secrets.c.revision).where(of(secrets, *_KEYS)).with_for_update()
_SECRET = _secrets().where(of(secrets, *_KEYS))
_STAGES = select(stages.c.stage, stages.c.version).where(of(stages, *_KEYS))
_VERSION = select(*_VERSION_COLUMNS).where(of(versions, *_KEYS, "version"))
_SEALED = select(versions).where(of(versions, *_KEYS, "version"))
_ADD, _ADD_VERSION, _ADD_STAGES = insert(secrets), insert(versions), insert(stages)
_CHANGE = change(secrets, *_KEYS)
_TAKE_STAGES = delete(stages).where(of(stages, *_KEYS), stages.c.stage.in_(bindparam("changed", expanding=True)))
