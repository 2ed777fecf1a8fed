"""Keys and their versions in the database: SQL and nothing else. Every function works inside its caller's transaction.

What is read was verified (services/runtime/storage/sealed_rows.py): every function that reads raises
KEY_MATERIAL_REFUSED for what keystore did not write, or ACCESS_RECORD_REFUSED where it came by an alias.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, insert, select, tuple_, update

from services.keystore.store import alias_store, words
from services.keystore.store.filters import KeyFilter
from services.keystore.store.model import Key, Version
from services.keystore.store.tables import key_tags, key_versions, keys, root_versions
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.storage import sealed_rows
from services.runtime.storage.row_seals import SEAL
from services.runtime.storage.sql_filters import Condition
from services.runtime.storage.statements import named, of
from strongroom.keystore.v1.key_pb2 import (
    KEY_VERSION_STATE_DESTROYED,
    KEY_VERSION_STATE_DISABLED,
    KEY_VERSION_STATE_ENABLED,
)

_EVERY_KEY = KeyFilter()
NO_UID = bytes(16)
"""That of no key."""
_NAMED = select(keys).where(of(keys, "account", "key_id"))
_OF_UID = select(keys).where(of(keys, "uid"))
_LOCKED = _OF_UID.with_for_update()
_RETIRED = select(root_versions.c.retired_us).where(of(root_versions, "root_version")).with_for_update(read=True)
_ADD_VERSIONS = insert(key_versions)


def key(connection: Connection, name: ResourceName) -> Key | None:
    """The key of this name, or that an alias of this name stands for."""
    if name.collection == "aliases":
        alias = alias_store.alias(connection, name)
        # Behind an alias that there is not, too: it takes as long.
        return key_by_uid(connection, alias.key_uid if alias is not None else NO_UID)
    row = connection.execute(_NAMED, named(account=name.account, key_id=name.id)).one_or_none()
    return _key(connection, row) if row is not None else None


def key_by_uid(connection: Connection, uid: bytes, *, lock: bool = False) -> Key | None:
    """The key of this uid; with `lock` nobody else changes it before the transaction ends."""
    row = connection.execute(_LOCKED if lock else _OF_UID, named(uid=uid)).one_or_none()
    return _key(connection, row) if row is not None else None


def keys_by_uid(connection: Connection, uids: Collection[bytes]) -> dict[bytes, Key]:
    """The keys of these uids."""
    return {row.uid: _key(connection, row) for row in connection.execute(select(keys).where(keys.c.uid.in_(uids)))}


def keys_page(
    connection: Connection, account: str, after: str, limit: int, wanted: KeyFilter = _EVERY_KEY
) -> list[Key]:
    """An account's keys that the filter lets through, in the order of their ids, from the first behind `after`."""
    met = [condition(connection.dialect.name) for condition in wanted.conditions]
    listed = select(keys).where(keys.c.account == account, *met)
    place = keys.c.key_id
    for tag_key, tag_value in wanted.tags:
        tagged = key_tags.alias()
        of_value = and_(tagged.c.account == account, tagged.c.tag_key == tag_key, tagged.c.tag_value == tag_value)
        listed = listed.join(tagged, and_(of_value, tagged.c.key_id == keys.c.key_id))
        # Keys with the tag are walked, not all keys.
        place = tagged.c.key_id
    ordered = listed.where(place > after).order_by(place).limit(limit)
    return [_key(connection, row) for row in connection.execute(ordered).all()]


def insert_key(connection: Connection, added: Key, *first: Version) -> None:
    """Adds a key, with the versions that it has from the first. Raises IntegrityError when the name is taken, and as
    `require_live_root`."""
    for version in first:
        require_live_root(connection, version.root_version)
    versions = sealed_rows.sealed(connection, key_versions, [_row_of_version(version) for version in first])
    row = {
        "account": added.name.account,
        "key_id": added.name.id,
        "uid": added.uid,
        "spec": added.spec,
        "usage": added.usage,
        "protection_level": added.protection_level,
        "origin": added.origin,
        "state": added.state,
        "description": added.description,
        "tags": tags_text(added.tags),
        "deletion_protection": added.deletion_protection,
        "primary_version": added.primary_version,
        "revision": added.revision,
        "created_us": added.created_us,
        "updated_us": added.updated_us,
        "rotated_us": added.rotated_us,
        "rotation_period_s": added.rotation_period_s,
        "next_rotate_us": added.next_rotate_us,
        "versions_digest": sealed_rows.digest(version[SEAL] for version in versions),
    }
    sealed_rows.insert(connection, keys, [row])
    if versions:
        connection.execute(_ADD_VERSIONS, versions)
    _insert_tags(connection, added)


def update_key(connection: Connection, changed: Key) -> None:
    """Puts what may change of a key in the place of what it was."""
    values = {
        "state": changed.state,
        "description": changed.description,
        "tags": tags_text(changed.tags),
        "deletion_protection": changed.deletion_protection,
        "primary_version": changed.primary_version,
        "revision": changed.revision,
        "updated_us": changed.updated_us,
        "rotated_us": changed.rotated_us,
        "rotation_period_s": changed.rotation_period_s,
        "next_rotate_us": changed.next_rotate_us,
        "delete_us": changed.delete_us,
        "destroyed_us": changed.destroyed_us,
        "expires_us": changed.expires_us,
    }
    sealed_rows.update(connection, keys, [keys.c.uid == changed.uid], values)


def replace_tags(connection: Connection, changed: Key) -> None:
    """Puts a key's tags in the place of those by which it was found."""
    of_key = (key_tags.c.account == changed.name.account, key_tags.c.key_id == changed.name.id)
    connection.execute(delete(key_tags).where(*of_key))
    _insert_tags(connection, changed)


def version(connection: Connection, uid: bytes, number: int, *, lock: bool = False) -> Version | None:
    """One version of a key; with `lock` nobody else changes it before the transaction ends."""
    wanted = select(key_versions).where(key_versions.c.uid == uid, key_versions.c.version == number)
    row = connection.execute(wanted.with_for_update() if lock else wanted).one_or_none()
    return _version(connection, row) if row is not None else None


def versions(connection: Connection, uid: bytes) -> list[Version]:
    """Every version of a key, by number: none was taken away or put back. Of NO_UID there is none, and it takes as
    long."""
    ordered = select(key_versions).where(key_versions.c.uid == uid).order_by(key_versions.c.version)
    rows = connection.execute(ordered).all()
    _require_complete(connection, uid, sealed_rows.digest(row.seal for row in rows))
    return [_version(connection, row) for row in rows]


def versions_page(
    connection: Connection, uid: bytes, before: int, limit: int, conditions: Sequence[Condition] = ()
) -> list[Version]:
    """A key's versions that meet the conditions, newest first, from the first below `before`."""
    met = [condition(connection.dialect.name) for condition in conditions]
    ordered = select(key_versions).where(key_versions.c.uid == uid, key_versions.c.version < before, *met)
    rows = connection.execute(ordered.order_by(key_versions.c.version.desc()).limit(limit)).all()
    return [_version(connection, row) for row in rows]


def versions_with_blobs(connection: Connection, after: tuple[bytes, int], limit: int) -> list[Version]:
    """Versions that have a blob, or should, in the order of key uid and number, from the first behind `after`."""
    place = (key_versions.c.uid, key_versions.c.version)
    # By what is sealed: where somebody took a blob away, or put one where none is, nothing else tells.
    in_use = key_versions.c.state.in_([KEY_VERSION_STATE_ENABLED, KEY_VERSION_STATE_DISABLED])
    kept = key_versions.c.wrapped.is_not(None) & (key_versions.c.state != KEY_VERSION_STATE_DESTROYED)
    found = select(key_versions).where(in_use | kept, tuple_(*place) > after).order_by(*place).limit(limit)
    return [_version(connection, row) for row in connection.execute(found).all()]


def owners_of(connection: Connection, versions: Collection[Version]) -> dict[bytes, Key]:
    """The keys that versions are of. Raises KEY_MATERIAL_REFUSED for one that is missing, or lacks another version."""
    found = keys_by_uid(connection, {version.uid for version in versions})
    for uid in {version.uid for version in versions}:
        _require_complete(connection, uid, _versions_digest(connection, uid))
    return found


def newest_version(connection: Connection, uid: bytes) -> int:
    """The number of a key's newest version."""
    newest = select(func.max(key_versions.c.version)).where(key_versions.c.uid == uid)
    return int(connection.execute(newest).scalar_one())


def insert_version(connection: Connection, added: Version) -> None:
    """Adds a version. Raises IntegrityError when the number is taken, and as `require_live_root`."""
    require_live_root(connection, added.root_version)
    with _versions_changing(connection, added.uid):
        sealed_rows.insert(connection, key_versions, [_row_of_version(added)])


def count_messages(connection: Connection, counted: Version, count: int, retired_us: int | None) -> None:
    """Adds to the messages of a version, and retires it when a time is given."""
    of_version = (key_versions.c.uid == counted.uid, key_versions.c.version == counted.version)
    values = {"message_count": key_versions.c.message_count + count, "retired_us": retired_us}
    connection.execute(update(key_versions).where(*of_version).values(values))


def update_version(connection: Connection, changed: Version) -> None:
    """Puts what may change of a version in the place of what it was. Raises as `require_live_root`."""
    require_live_root(connection, changed.root_version)
    values = {
        "state": changed.state,
        "wrapped": changed.wrapped or None,
        "public_key": changed.public_key or None,
        "root_version": changed.root_version,
        "destroyed_us": changed.destroyed_us,
        "imported_us": changed.imported_us,
        "expires_us": changed.expires_us,
        "fingerprint": changed.fingerprint or None,
    }
    of_version = (key_versions.c.uid == changed.uid, key_versions.c.version == changed.version)
    with _versions_changing(connection, changed.uid):
        sealed_rows.update(connection, key_versions, of_version, values)


def require_live_root(connection: Connection, root_version: int) -> None:
    """Raises PROVIDER_UNAVAILABLE when a root version was retired; it is not before the transaction ends."""
    if connection.execute(_RETIRED, named(root_version=root_version)).scalar_one_or_none() is not None:
        raise StrongroomError(
            Reason.PROVIDER_UNAVAILABLE, f"root version {root_version} was retired meanwhile: try again", peer="crypto"
        )


def tags_text(tags: Mapping[str, str]) -> str:
    """Tags as their column has them."""
    return json.dumps(dict(tags), sort_keys=True)


def _require_complete(connection: Connection, uid: bytes, digest: bytes) -> None:
    """Raises KEY_MATERIAL_REFUSED for versions that are not, as a set, those that the key has."""
    bound = connection.execute(select(keys.c.versions_digest).where(keys.c.uid == uid)).scalar_one_or_none()
    if bound != digest and uid != NO_UID:
        raise StrongroomError(
            Reason.KEY_MATERIAL_REFUSED, "the versions that are stored of a key are not those that it has"
        )


@contextmanager
def _versions_changing(connection: Connection, uid: bytes) -> Iterator[None]:
    """Around a change of a key's versions: they were complete before, and are again."""
    _require_complete(connection, uid, _versions_digest(connection, uid))
    yield
    bound = {"versions_digest": _versions_digest(connection, uid)}
    sealed_rows.update(connection, keys, [keys.c.uid == uid], bound)


def _versions_digest(connection: Connection, uid: bytes) -> bytes:
    return sealed_rows.digest(
        connection.execute(select(key_versions.c.seal).where(key_versions.c.uid == uid)).scalars()
    )


def bind_versions(connection: Connection, uid: bytes) -> None:
    """Takes the versions of a key as they are for those that it has."""
    bound = {"versions_digest": _versions_digest(connection, uid)}
    connection.execute(update(keys).where(keys.c.uid == uid).values(bound))


def _row_of_version(added: Version) -> dict[str, Any]:
    return {
        "uid": added.uid,
        "version": added.version,
        "state": added.state,
        "origin": added.origin,
        "wrapped": added.wrapped or None,
        "public_key": added.public_key or None,
        "root_version": added.root_version,
        "created_us": added.created_us,
        "message_count": 0,
    }


def _insert_tags(connection: Connection, tagged: Key) -> None:
    of_key = {"account": tagged.name.account, "key_id": tagged.name.id}
    rows = [{**of_key, "tag_key": tag_key, "tag_value": value} for tag_key, value in tagged.tags.items()]
    if rows:
        connection.execute(insert(key_tags), rows)


def _tags(text: str) -> Mapping[str, str]:
    try:
        tags = json.loads(text)
    except ValueError:
        tags = None
    if not isinstance(tags, dict):
        raise StrongroomError(Reason.KEY_MATERIAL_REFUSED, "what is stored of a key is no tags")
    return tags


def _key(connection: Connection, row: Row[Any]) -> Key:
    # A page has thousands of values, and a row gives them by attribute at six times the price.
    stored = row._mapping
    name, refused = ResourceName(stored["account"], "keys", stored["key_id"]), Reason.KEY_MATERIAL_REFUSED
    sealed_rows.require(connection, keys, row, name, refused)
    words.require_known(stored, words.OF_KEYS)
    sealed_rows.require_newest(connection, stored["uid"].hex(), stored["revision"], refused)
    return Key(
        name,
        stored["uid"],
        stored["spec"],
        stored["usage"],
        stored["protection_level"],
        stored["origin"],
        stored["state"],
        stored["description"],
        _tags(stored["tags"]),
        stored["deletion_protection"],
        stored["primary_version"],
        stored["revision"],
        stored["created_us"],
        stored["updated_us"],
        stored["rotated_us"],
        stored["rotation_period_s"],
        stored["delete_us"],
        stored["destroyed_us"],
        stored["expires_us"],
    )


def _version(connection: Connection, row: Row[Any]) -> Version:
    stored = row._mapping
    name = f"version {stored['version']} of a key"
    sealed_rows.require(connection, key_versions, row, name, Reason.KEY_MATERIAL_REFUSED)
    words.require_known(stored, words.OF_VERSIONS)
    return Version(
        stored["uid"],
        stored["version"],
        stored["state"],
        stored["origin"],
        stored["wrapped"] or b"",
        stored["public_key"] or b"",
        stored["root_version"],
        stored["created_us"],
        stored["destroyed_us"],
        stored["imported_us"],
        stored["expires_us"],
        stored["fingerprint"] or b"",
        stored["message_count"],
        stored["retired_us"],
    )
