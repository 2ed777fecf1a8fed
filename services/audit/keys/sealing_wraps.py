"""How a sealing key is kept (docs/formats.md): wrapped for its account and age, or as proof that the service destroyed
it.

Whoever writes to the database can neither have one account's key taken for another's, or for an older one, nor pass one
that is gone for one that was destroyed.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.audit.keys.store import WrappedKey
from services.runtime.aes_gcm import NONCE_BYTES, TAG_BYTES
from services.runtime.errors import Reason, StrongroomError
from services.runtime.sensitive import SensitiveBytes

_BOUND = b"\x03"
_DESTROYED = b"\x01"
DESTROYED_BYTES = 1 + NONCE_BYTES + TAG_BYTES
"""What is longer is a key."""


def wrap(root: SensitiveBytes, material: bytes, key: WrappedKey) -> bytes:
    """A sealing key, to be opened as what else the row says of it alone."""
    return _sealed(root, _BOUND, material, key)


def destroyed(root: SensitiveBytes, key: WrappedKey) -> bytes:
    """What takes the place of a sealing key that the service destroyed."""
    return _sealed(root, _DESTROYED, b"", key)


def unwrap(root: SensitiveBytes, key: WrappedKey) -> bytes | None:
    """The sealing key; None for one that was destroyed. Raises AUDIT_RECORD_REFUSED for what neither function made of
    this key."""
    form, nonce, sealed = key.wrapped[:1], key.wrapped[1 : 1 + NONCE_BYTES], key.wrapped[1 + NONCE_BYTES :]
    if form not in (_BOUND, _DESTROYED) or len(sealed) < TAG_BYTES:
        raise refused()
    try:
        opened = AESGCM(root.reveal()).decrypt(nonce, sealed, _binding(form, key))
    except InvalidTag as error:
        raise refused() from error
    return opened if form == _BOUND else None


def refused() -> StrongroomError:
    """A sealing key is not there, or is not what the service wrote."""
    return StrongroomError(
        Reason.AUDIT_RECORD_REFUSED,
        "the key that the event is sealed under is missing from audit's database, or was changed there",
    )


def _sealed(root: SensitiveBytes, form: bytes, material: bytes, key: WrappedKey) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return form + nonce + AESGCM(root.reveal()).encrypt(nonce, material, _binding(form, key))


def _binding(form: bytes, key: WrappedKey) -> bytes:
    # Retention decides by when a key was made.
    return b"strongroom sealing key" + form + key.key_id + f"{key.created_us}\0{key.account}".encode()
