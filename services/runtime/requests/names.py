"""Resource names (AIP-122): `accounts/{account}/keys/{key}` and the like."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from services.runtime.errors import Reason, StrongroomError, required

_ID = re.compile(r"[a-z][a-z0-9-]{0,62}")
# A secret's id may have parts, as paths do; none of them is the name of a collection below it.
_SECRET_ID = re.compile(
    r"(?=.{1,63}\Z)(?!(.*/)?(versions|rotations)(/|\Z))[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*"
)
_NAME = re.compile(r"accounts/([^/]+)/([^/]+)/(.+?)(?:/versions/([1-9][0-9]{0,8}))?", re.DOTALL)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# No name is longer. What is remembered of names holds them whole, also those that are none.
_MAX_NAME = 256

_PATTERNS: dict[str, re.Pattern[str]] = {
    "accounts": _ID,
    "keys": _ID,
    "aliases": _ID,
    "secrets": _SECRET_ID,
    "users": _ID,
    "workloads": _ID,
    "roles": _ID,
    "policies": _ID,
    "grants": _ID,
    "clientKeys": _ID,
    "oidcProviders": _ID,
    "events": _UUID,
}

_FORMS = {_SECRET_ID: "[a-z0-9][a-z0-9._-]*, or several such with / between, 63 characters in all"}


@dataclass(frozen=True, slots=True)
class ResourceName:
    """A resource of an account: `accounts/{account}/{collection}/{id}`, with a version where it has versions."""

    account: str
    collection: str
    id: str
    version: int = 0

    def __str__(self) -> str:
        name = f"accounts/{self.account}/{self.collection}/{self.id}"
        return f"{name}/versions/{self.version}" if self.version else name

    @property
    def parent(self) -> str:
        """The account's own name, `accounts/{account}`."""
        return f"accounts/{self.account}"

    @property
    def without_version(self) -> ResourceName:
        """The resource that this is a version of, or itself."""
        return ResourceName(self.account, self.collection, self.id) if self.version else self


def is_name(name: ResourceName) -> bool:
    """Whether its parts are what such a name may have."""
    return bool(_ID.fullmatch(name.account) and _PATTERNS[name.collection].fullmatch(name.id))


def parse(name: str, field: str, *collections: str, versioned: bool | None = False) -> ResourceName:
    """Reads a resource name of one of `collections`; with `versioned`, one of its versions, and with None either.

    Raises FIELD_REQUIRED for an empty name and NAME_MALFORMED, naming `field`, for anything else that is off.
    """
    if not name:
        raise required(field)
    parsed = _parsed(name) if len(name) <= _MAX_NAME else None
    if (
        parsed is None
        or parsed.collection not in collections
        or (versioned is not None and bool(parsed.version) != versioned)
    ):
        suffix = "/versions/{number}" if versioned else "[/versions/{number}]" if versioned is None else ""
        expected = " or ".join(f"accounts/{{account}}/{collection}/{{id}}{suffix}" for collection in collections)
        raise StrongroomError(Reason.NAME_MALFORMED, f"{field} is not of the form {expected}", field=field)
    return parsed


def parse_account(name: str, field: str) -> str:
    """Reads `accounts/{account}` and answers the account's id; raises as `parse` does."""
    if not name:
        raise required(field)
    collection, _, account = name.partition("/")
    if collection != "accounts" or not _ID.fullmatch(account):
        raise StrongroomError(Reason.NAME_MALFORMED, f"{field} is not of the form accounts/{{account}}", field=field)
    return account


def check_id(value: str, collection: str, field: str) -> str:
    """Checks an id that a caller chose for a new resource of `collection`; raises FIELD_INVALID."""
    pattern = _PATTERNS[collection]
    if not pattern.fullmatch(value):
        form = _FORMS.get(pattern, pattern.pattern)
        raise StrongroomError(Reason.FIELD_INVALID, f"{field} must match {form}", field=field)
    return value


@lru_cache(maxsize=65_536)
def _parsed(name: str) -> ResourceName | None:
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    account, collection, own_id, version = found.groups()
    pattern = _PATTERNS.get(collection)
    if not _ID.fullmatch(account) or pattern is None or not pattern.fullmatch(own_id):
        return None
    return ResourceName(account, collection, own_id, int(version or 0))
