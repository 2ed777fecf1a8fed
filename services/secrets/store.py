"""The secrets' database: SQL and nothing else. Every function works inside its caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, delete, insert, select, update

from services.runtime.names import ResourceName
from services.secrets.records import Request, SealedVersion, Secret, Version
from services.secrets.tables import requests, secrets, stages, versions

_VERSION_COLUMNS = [column for column in versions.c if column.name not in ("data_key", "sealed")]


def secret(connection: Connection, name: ResourceName) -> Secret | None:
    """A secret, if there is one of this name."""
    row = connection.execute(select(secrets).where(_of(secrets, name))).one_or_none()
    if row is None:
        return None
    at = connection.execute(select(stages.c.stage, stages.c.version).where(_of(stages, name)))
    return _secret(row, dict(at.tuples().all()))


def secrets_page(connection: Connection, account: str, after: str, limit: int) -> list[Secret]:
    """An account's secrets in the order of their ids, from the first behind `after`."""
    ordered = select(secrets).where(secrets.c.account == account, secrets.c.secret_id > after)
    rows = connection.execute(ordered.order_by(secrets.c.secret_id).limit(limit)).all()
    wanted = and_(stages.c.account == account, stages.c.secret_id.in_([row.secret_id for row in rows]))
    at: dict[str, dict[str, int]] = {}
    for stage in connection.execute(select(stages).where(wanted)):
        at.setdefault(stage.secret_id, {})[stage.stage] = stage.version
    return [_secret(row, at.get(row.secret_id, {})) for row in rows]


def sealed_version(connection: Connection, name: ResourceName) -> SealedVersion | None:
    """A version with its sealed value, if there is one of this name."""
    row = connection.execute(select(versions).where(_of_version(name))).one_or_none()
    return SealedVersion(_version(row), row.data_key or b"", row.sealed or b"") if row is not None else None


def versions_page(connection: Connection, name: ResourceName, before: int, limit: int) -> list[Version]:
    """A secret's versions, newest first, from the first below `before`."""
    ordered = select(*_VERSION_COLUMNS).where(_of(versions, name), versions.c.version < before)
    rows = connection.execute(ordered.order_by(versions.c.version.desc()).limit(limit))
    return [_version(row) for row in rows]


def insert_secret(connection: Connection, added: Secret) -> None:
    """Adds a secret without versions. Raises IntegrityError when the name is taken."""
    connection.execute(
        insert(secrets).values(
            account=added.name.account,
            secret_id=added.name.id,
            type=added.type,
            state=added.state,
            key_name=added.key,
            description=added.description,
            tags=json.dumps(dict(added.tags), sort_keys=True),
            retained_versions=added.retained_versions,
            latest_version=added.latest_version,
            revision=added.revision,
            created_us=added.created_us,
            updated_us=added.updated_us,
        )
    )


def advance(connection: Connection, name: ResourceName, revision: int, latest_version: int, now_us: int) -> bool:
    """Moves a secret from `revision` to the next; answers False when it is not at `revision` any more."""
    changed = connection.execute(
        update(secrets)
        .where(_of(secrets, name), secrets.c.revision == revision)
        .values(revision=revision + 1, latest_version=latest_version, updated_us=now_us)
    )
    return changed.rowcount == 1


def insert_version(connection: Connection, added: SealedVersion) -> None:
    """Adds a version. Raises IntegrityError when the number is taken."""
    version = added.version
    connection.execute(
        insert(versions).values(
            account=version.name.account,
            secret_id=version.name.id,
            version=version.name.version,
            state=version.state,
            origin=version.origin,
            key_version=version.key_version,
            format=version.format,
            value_size=version.value_size,
            data_key=added.data_key,
            sealed=added.sealed,
            created_us=version.created_us,
        )
    )


def set_stages(connection: Connection, name: ResourceName, moved: Mapping[str, int]) -> None:
    """Puts each stage of `moved` at its version, wherever it was."""
    connection.execute(delete(stages).where(_of(stages, name), stages.c.stage.in_(list(moved))))
    rows = [
        {"account": name.account, "secret_id": name.id, "stage": stage, "version": version}
        for stage, version in moved.items()
    ]
    connection.execute(insert(stages), rows)


def versions_with_value(connection: Connection, name: ResourceName) -> list[int]:
    """The numbers of the versions whose value is not destroyed, oldest first."""
    present = select(versions.c.version).where(_of(versions, name), versions.c.sealed.is_not(None))
    return list(connection.execute(present.order_by(versions.c.version)).scalars())


def destroy_values(connection: Connection, name: ResourceName, numbers: Iterable[int], state: int, now_us: int) -> None:
    """Forgets the values of versions for good."""
    connection.execute(
        update(versions)
        .where(_of(versions, name), versions.c.version.in_(list(numbers)))
        .values(state=state, data_key=None, sealed=None, destroyed_us=now_us)
    )


def request(connection: Connection, account: str, request_id: str, since_us: int) -> Request | None:
    """What a call with this request id did, if it was not before `since_us`."""
    found = and_(requests.c.account == account, requests.c.request_id == request_id, requests.c.created_us >= since_us)
    row = connection.execute(select(requests).where(found)).one_or_none()
    return Request(*row) if row is not None else None


def insert_request(connection: Connection, added: Request, since_us: int) -> None:
    """Remembers what a call did, and forgets what was before `since_us`. Raises IntegrityError when another call with
    its id was quicker."""
    connection.execute(delete(requests).where(requests.c.created_us < since_us))
    connection.execute(
        insert(requests).values(
            account=added.account,
            request_id=added.request_id,
            digest=added.digest,
            secret_id=added.secret_id,
            version=added.version,
            created_us=added.created_us,
        )
    )


def _of(table: Table, name: ResourceName) -> ColumnElement[bool]:
    return and_(table.c.account == name.account, table.c.secret_id == name.id)


def _of_version(name: ResourceName) -> ColumnElement[bool]:
    return and_(_of(versions, name), versions.c.version == name.version)


def _secret(row: Row[Any], at: Mapping[str, int]) -> Secret:
    return Secret(
        ResourceName(row.account, "secrets", row.secret_id),
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
    )


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
    )
