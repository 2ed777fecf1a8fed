"""Names of transit keys: those of the mesh's keys in the caller's account."""

from __future__ import annotations

import re

from services.doors.mesh.sessions import Caller
from services.doors.vault.errors import invalid
from services.doors.vault.requests import Request

_ID = re.compile(r"[a-z][a-z0-9-]{0,62}")


def key_name(request: Request, name: str) -> str:
    """The full name of the key that a request names. Raises HttpError for a name that no key has."""
    return full_key_name(request.caller, name)


def full_key_name(caller: Caller, name: str) -> str:
    """The full name of a key in a caller's account. Raises HttpError for a name that no key has."""
    if not _ID.fullmatch(name):
        raise invalid(f"the name of a key must match {_ID.pattern}")
    return f"accounts/{caller.account}/keys/{name}"
