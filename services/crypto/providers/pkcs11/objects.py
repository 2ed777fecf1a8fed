"""The secret keys that a token keeps, as it answers just now: other processes make and destroy some meanwhile."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

import pkcs11
from pkcs11 import Attribute, ObjectClass, SecretKey
from pkcs11.exceptions import KeyHandleInvalid, ObjectHandleInvalid

from services.crypto.providers.pkcs11.module import TokenKey

_SEARCHES = 5
GONE = (KeyHandleInvalid, ObjectHandleInvalid)
"""What modules answer for an object that is no longer there."""


class Kept(NamedTuple):
    """A secret key of the token's."""

    label: str
    key: TokenKey


def kept(session: pkcs11.Session, label: str | None = None) -> list[Kept]:
    """The secret keys of one label, or all. Raises PKCS11Error when the token is not well."""
    for _ in range(_SEARCHES - 1):
        try:
            return _kept(session, label)
        except GONE:
            # One was destroyed between being found and being read: it is not found again.
            continue
    return _kept(session, label)


def destroy(session: pkcs11.Session, label: str) -> None:
    """Destroys the keys of a label, in a read-write session; those that another process destroys first are gone too."""
    for _, key in kept(session, label):
        with suppress(*GONE):
            key.destroy()


def _kept(session: pkcs11.Session, label: str | None) -> list[Kept]:
    named = {} if label is None else {Attribute.LABEL: label}
    wanted = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.TOKEN: True, **named}
    return [Kept(str(key.label), key) for key in session.get_objects(wanted) if isinstance(key, SecretKey)]
