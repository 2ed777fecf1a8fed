"""Copies secrets from another place, one by one, so that a copy that was cut off goes on when it is run again.

Nothing is kept on disk to remember how far it was: a secret that is there with the same value is left as it is.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from strongroom.errors import StrongroomError

if TYPE_CHECKING:
    from strongroom.calls.secrets.secrets import Secrets

MAX_VALUE_BYTES = 65_536
_MAX_ID = 63
_NOT_IN_IDS = re.compile(r"[^a-z0-9._/-]+")
_EDGES = re.compile(r"^[^a-z0-9]+|[^a-z0-9]+$")
_FOREIGN_NAME = "migrated-from"
_MAX_TAGS, _MAX_TAG_KEY, _MAX_TAG_VALUE = 50, 128, 256


@dataclass(frozen=True, slots=True)
class Found:
    """A secret in the other place. `name` is what it is called there."""

    name: str
    value: bytes = field(repr=False)
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


class Place(Protocol):
    """Where secrets are copied from."""

    title: str
    """What the place is called in messages and tags, such as `vault:secret`."""

    def names(self) -> Iterator[str]:
        """The names of its secrets. Raises StrongroomError where they cannot be listed."""

    def read(self, name: str) -> Found:
        """One secret. Raises StrongroomError where it cannot be read."""


class Outcome(StrEnum):
    """What became of one secret."""

    CREATED = "created"
    UNCHANGED = "unchanged"
    UPDATED = "updated"
    DIFFERENT = "different"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Copied:
    """One secret: what it was called, what it is called now, and what became of it. `reason` and `detail` say why it
    could not be copied, `code` of which kind that is. A dry run answers what would become of it."""

    name: str
    secret: str
    outcome: Outcome
    byte_count: int = 0
    reason: str = ""
    detail: str = ""
    code: str = ""


def secret_id_of(name: str, prefix: str = "") -> str:
    """The id that a secret gets here: in small letters, with `-` for what ids cannot have."""
    parts = [_EDGES.sub("", _NOT_IN_IDS.sub("-", part)) for part in f"{prefix}{name}".lower().split("/")]
    return "/".join(part for part in parts if part)


def copy(
    place: Place,
    secrets: Secrets,
    *,
    prefix: str = "",
    key: str = "",
    overwrite: bool = False,
    dry_run: bool = False,
) -> Iterator[Copied]:
    """Copies every secret of a place, and answers each as it is done.

    A secret that is here already is left alone where its value is the same, and where it is another: DIFFERENT, or a
    new version with `overwrite`. `prefix` is put before each id; values are encrypted under `key`. What concerns one
    secret is its outcome. Raises StrongroomError for what concerns all, such as that the names cannot be listed.
    """
    taken: dict[str, str] = {}
    for name in place.names():
        secret = secret_id_of(name, prefix)
        other = taken.setdefault(secret, name)
        if other != name:
            yield Copied(name, secret, Outcome.FAILED, 0, "NAME_MALFORMED", f"{other} has this id already: rename one")
            continue
        try:
            yield _copied(place, secrets, name, secret, key, overwrite=overwrite, dry_run=dry_run)
        except StrongroomError as error:
            yield Copied(name, secret, Outcome.FAILED, 0, error.reason, error.message, error.code_name)


def _copied(
    place: Place, secrets: Secrets, name: str, secret: str, key: str, *, overwrite: bool, dry_run: bool
) -> Copied:
    found = place.read(name)
    # With its kind in front, an id that itself begins so stays what it is.
    here_called = f"secrets/{secret}" if secret.startswith("secrets/") else secret
    size = len(found.value)
    if len(secret) > _MAX_ID:
        raise StrongroomError("NAME_MALFORMED", f"{secret} has more than {_MAX_ID} characters: use another prefix")
    if size > MAX_VALUE_BYTES:
        raise StrongroomError("FIELD_TOO_LARGE", f"the value has {size} bytes: a secret holds {MAX_VALUE_BYTES}")
    if not size:
        raise StrongroomError("FIELD_REQUIRED", "it has no value")
    here = _value_here(secrets, here_called)
    if here is None:
        secrets.create(
            here_called, found.value, key=key, description=found.description, tags=_tags(place, found), dry_run=dry_run
        )
        return Copied(name, secret, Outcome.CREATED, size)
    if _same(here, found.value):
        return Copied(name, secret, Outcome.UNCHANGED, size)
    if not overwrite:
        return Copied(
            name, secret, Outcome.DIFFERENT, size, detail="it has another value here: --overwrite replaces it"
        )
    if not dry_run:
        secrets.put_value(here_called, found.value)
    return Copied(name, secret, Outcome.UPDATED, size)


def _value_here(secrets: Secrets, secret: str) -> bytes | None:
    try:
        return secrets.get_value(secret).value
    except StrongroomError as error:
        if error.reason == "SECRET_NOT_FOUND":
            return None
        if error.reason == "STAGE_NOT_FOUND":  # it was made without a value
            return b""
        raise


def _same(one: bytes, other: bytes) -> bool:
    return hmac.compare_digest(hashlib.sha256(one).digest(), hashlib.sha256(other).digest())


def _tags(place: Place, found: Found) -> dict[str, str]:
    """The tags that fit, and where the secret is from."""
    own = {name: value for name, value in found.tags.items() if 0 < len(name) <= _MAX_TAG_KEY}
    fitting = {name: value for name, value in own.items() if len(value) <= _MAX_TAG_VALUE}
    kept = dict(list(fitting.items())[: _MAX_TAGS - 1])
    return {**kept, _FOREIGN_NAME: f"{place.title}/{found.name}"[:_MAX_TAG_VALUE]}
