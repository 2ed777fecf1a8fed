"""The root key's versions, the rotation, and the blobs that it moves, in the database. Every function works inside its
caller's transaction.

Which root version a blob is under says the blob itself, to crypto: the column beside it is for counting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from sqlalchemy import Connection, func, insert, select, update

from services.keystore.store import store
from services.keystore.store.model import Key, Version
from services.keystore.store.tables import key_versions, keys, root_rotation, root_versions
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage import row_seals, sealed_rows
from services.runtime.storage.row_seals import SEAL
from strongroom.keystore.v1.root_key_pb2 import ROOT_KEY_ROTATION_STATE_STALLED, RootKeyRotationState

_ROW = 1


class BlobsLeftError(Exception):
    """There are blobs under a root version that was to be retired."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """One rotation of the root key. Times are in microseconds since the Unix epoch."""

    target_version: int
    state: RootKeyRotationState.ValueType
    total_count: int
    started_us: int
    progressed_us: int
    """When a blob last moved."""
    done_count: int = 0
    failed_count: int = 0
    """Blobs that crypto refused since the pass over all of them began."""
    error_reason: str = ""
    error_detail: str = ""
    cursor_uid: bytes = b""
    cursor_version: int = 0
    """The last blob that the pass came to."""
    ended_us: int | None = None
    pass_us: int = 0
    """When the pass began."""


REFUSED = Rotation(
    target_version=0,
    state=ROOT_KEY_ROTATION_STATE_STALLED,
    total_count=0,
    started_us=0,
    progressed_us=0,
    error_reason=Reason.KEY_MATERIAL_REFUSED,
    error_detail="what is stored of the rotation is not what keystore stored: rotate again, to begin one anew",
)
"""What stands for a rotation that somebody else wrote. Nothing is done by it."""


def rotation(connection: Connection, *, lock: bool = False) -> Rotation | None:
    """The rotation that runs, or the last one; with `lock` nobody else changes it before the transaction ends."""
    wanted = select(root_rotation).where(root_rotation.c.row_id == _ROW)
    row = connection.execute(wanted.with_for_update() if lock else wanted).one_or_none()
    if row is None:
        return None
    if not sealed_rows.is_good(connection, root_rotation, row):
        return REFUSED
    return Rotation(**{field.name: row._mapping[field.name] for field in fields(Rotation)})


def put_rotation(connection: Connection, put: Rotation) -> None:
    """Puts a rotation in the place of the one that was, whoever wrote that."""
    row = {"row_id": _ROW, **asdict(put)}
    row[SEAL] = row_seals.of(connection).seal(root_rotation, row)
    of_row = root_rotation.c.row_id == _ROW
    if connection.execute(update(root_rotation).where(of_row).values(row)).rowcount == 0:
        connection.execute(insert(root_rotation).values(row))


def add_version(connection: Connection, root_version: int) -> None:
    """Makes a root version known."""
    if root_version not in retirements(connection):
        connection.execute(insert(root_versions).values(root_version=root_version))


def retirements(connection: Connection) -> dict[int, int | None]:
    """The root versions that are known here, with the times when they were retired."""
    rows = connection.execute(select(root_versions).order_by(root_versions.c.root_version))
    return {row.root_version: row.retired_us for row in rows}


def retire(connection: Connection, root_version: int, now_us: int) -> None:
    """Retires a root version for good, so that no blob under it comes in any more. Raises BlobsLeftError when there are
    some; the transaction must not commit then."""
    of_version = root_versions.c.root_version == root_version
    retiring = update(root_versions).where(of_version, root_versions.c.retired_us.is_(None))
    connection.execute(retiring.values(retired_us=now_us))
    # Counted after the row is locked: what was on its way in is in.
    if blob_counts(connection).get(root_version, 0):
        raise BlobsLeftError


def blob_counts(connection: Connection) -> Mapping[int, int]:
    """How many blobs are under each root version."""
    counted = select(key_versions.c.root_version, func.count()).where(key_versions.c.root_version > 0)
    return {row[0]: row[1] for row in connection.execute(counted.group_by(key_versions.c.root_version))}


def blobs_after(connection: Connection, behind: Rotation, limit: int) -> list[tuple[Key, Version]]:
    """Versions of keys that have a blob, or should, in the order of key uid and version, from the first behind the
    rotation's cursor. Raises KEY_MATERIAL_REFUSED for what keystore did not write."""
    found = store.versions_with_blobs(connection, (behind.cursor_uid, behind.cursor_version), limit)
    owners = store.owners_of(connection, found)
    return [(owners[version.uid], version) for version in found]


def require_versions(connection: Connection) -> None:
    """Raises KEY_MATERIAL_REFUSED for a key whose versions were all taken away."""
    of_key = select(key_versions.c.uid).where(key_versions.c.uid == keys.c.uid)
    bare = connection.execute(select(keys.c.account, keys.c.key_id).where(~of_key.exists()).limit(1)).one_or_none()
    if bare is not None:
        named = f"accounts/{bare.account}/keys/{bare.key_id}"
        raise StrongroomError(Reason.KEY_MATERIAL_REFUSED, f"the versions of {named} are missing", name=named)


def replace_blob(connection: Connection, old: Version, wrapped: bytes, root_version: int) -> bool:
    """Puts a blob that is wrapped anew in the place of the old one. False when another is there by now. Raises as
    `store.require_live_root`."""
    store.require_live_root(connection, root_version)
    same = (key_versions.c.uid == old.uid, key_versions.c.version == old.version, key_versions.c.wrapped == old.wrapped)
    replaced = update(key_versions).where(*same).values(wrapped=wrapped, root_version=root_version)
    return connection.execute(replaced).rowcount == 1
