"""How a sealing key is kept (docs/formats.md): wrapped for one account, or as proof that the service destroyed it.

Whoever writes to the database can neither have one account's key taken for another's, nor pass one that is gone for one
that was destroyed.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from services.audit.keys.store import WrappedKey
from services.runtime.aes_gcm import NONCE_BYTES, TAG_BYTES
from services.runtime.errors import Reason, StrongroomError
from services.runtime.sensitive import SensitiveBytes

_BOUND = b"\x02"
_DESTROYED = b"\x00"
_UNBOUND_BYTES = 40
DESTROYED_BYTES = 1 + NONCE_BYTES + TAG_BYTES
"""What is longer is a key."""


def wrap(root: SensitiveBytes, material: bytes, key_id: bytes, account: str) -> bytes:
    """A sealing key, to be opened as this account's of this id alone."""
    return _sealed(root, _BOUND, material, key_id, account)


def destroyed(root: SensitiveBytes, key_id: bytes, account: str) -> bytes:
    """What takes the place of a sealing key that the service destroyed."""
    return _sealed(root, _DESTROYED, b"", key_id, account)


def is_bound(key: WrappedKey) -> bool:
    """Whether a key is not in the form that releases before had, which told nothing of its account."""
    return len(key.wrapped) != _UNBOUND_BYTES


def unwrap(root: SensitiveBytes, key: WrappedKey) -> bytes | None:
    """The sealing key; None for one that was destroyed. Raises AUDIT_RECORD_REFUSED for what neither function made of
    this key."""
    try:
        if not is_bound(key):
            return aes_key_unwrap(root.reveal(), key.wrapped)
        form, nonce, sealed = key.wrapped[:1], key.wrapped[1 : 1 + NONCE_BYTES], key.wrapped[1 + NONCE_BYTES :]
        if form not in (_BOUND, _DESTROYED) or len(sealed) < TAG_BYTES:
            raise refused()
        opened = AESGCM(root.reveal()).decrypt(nonce, sealed, _binding(form, key.key_id, key.account))
    except (InvalidTag, InvalidUnwrap) as error:
        raise refused() from error
    return opened if form == _BOUND else None


def refused() -> StrongroomError:
    """A sealing key is not there, or is not what the service wrote."""
    return StrongroomError(
        Reason.AUDIT_RECORD_REFUSED,
        "the key that the event is sealed under is missing from audit's database, or was changed there",
    )


def _sealed(root: SensitiveBytes, form: bytes, material: bytes, key_id: bytes, account: str) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return form + nonce + AESGCM(root.reveal()).encrypt(nonce, material, _binding(form, key_id, account))


def _binding(form: bytes, key_id: bytes, account: str) -> bytes:
    return b"strongroom sealing key" + form + key_id + account.encode()
