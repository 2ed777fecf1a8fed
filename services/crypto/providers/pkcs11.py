"""A root key in a PKCS#11 token, never extractable; keys of protection level HSM used inside it.

A root version is two AES-256 keys of the token, each for one purpose: `strongroom-root-<n>` wraps keys
(AES-KWP, RFC 5649), `strongroom-seal-<n>` seals blobs (AES-256-GCM).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import pkcs11
from pkcs11 import Attribute, GCMParams, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11.exceptions import GeneralError

from services.crypto.providers.pkcs11_sessions import PooledSession, SessionPool, TokenKey
from services.crypto.providers.provider import HsmCipher, SealBrokenError
from services.runtime.telemetry import Telemetry

_NONCE_BYTES = 12
_TAG_BITS = 128
_ROOT = re.compile(r"strongroom-root-([1-9][0-9]*)")

# Never leaves the token, not even wrapped.
_GUARDED: Mapping[Attribute, Any] = {
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
}


def initialize(pool: SessionPool) -> bool:
    """Makes the first root version in the token, once; answers whether it was made now."""
    with pool.writing() as session:
        if _root_versions(session):
            return False
        # The root key last: it is the one whose presence says that the version is whole.
        _make_root_key(session, _seal_label(1), MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT)
        _make_root_key(session, _root_label(1), MechanismFlag.WRAP | MechanismFlag.UNWRAP)
        return True


class Pkcs11Provider:
    """See Provider."""

    name = "pkcs11"
    has_hsm = True

    def __init__(self, pool: SessionPool, telemetry: Telemetry) -> None:
        self._pool = pool
        self._telemetry = telemetry
        with pool.session() as pooled:
            versions = _root_versions(pooled.session)
        if not versions:
            raise SystemExit("the token holds no root key: run `python -m services.crypto initialize --config FILE`")
        self.root_version = max(versions)

    def seal(self, root_version: int, payload: bytes, associated_data: bytes) -> bytes:
        """See Provider."""
        with self._pool.session() as pooled:
            return _encrypt(pooled, pooled.root(_seal_label(root_version)), payload, associated_data)

    def unseal(self, root_version: int, sealed: bytes, associated_data: bytes) -> bytes:
        """See Provider."""
        with self._pool.session() as pooled:
            return _decrypt(pooled.root(_seal_label(root_version)), sealed, associated_data)

    def make_hsm_key(self) -> bytes:
        """See Provider."""
        with self._pool.session() as pooled:
            # Extractable only under the root, and only here: the object is gone before its wrapped form is returned.
            made = pooled.session.generate_key(
                KeyType.AES,
                256,
                capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
                template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: True},
            )
            try:
                wrapped: bytes = pooled.root(_root_label(self.root_version)).wrap_key(
                    made, mechanism=Mechanism.AES_KEY_WRAP_PAD
                )
            finally:
                made.destroy()
            return wrapped

    def hsm_cipher(self, root_version: int, wrapped: bytes) -> HsmCipher:
        """See Provider."""
        return _Pkcs11Cipher(self._pool, self._telemetry, _root_label(root_version), wrapped)

    def random(self, size: int) -> bytes:
        """See Provider."""
        with self._pool.session() as pooled:
            return pooled.session.generate_random(size * 8)

    def check(self) -> None:
        """See Provider."""
        with self._pool.session() as pooled:
            pooled.session.generate_random(8)

    def close(self) -> None:
        """See Provider."""
        self._pool.close()


class _Pkcs11Cipher:
    """See HsmCipher. The key is unwrapped into each session that comes to use it."""

    def __init__(self, pool: SessionPool, telemetry: Telemetry, root_label: str, wrapped: bytes) -> None:
        self._pool = pool
        self._telemetry = telemetry
        self._root_label = root_label
        self._wrapped = wrapped
        self._name = sha256(wrapped).digest()

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """See HsmCipher."""
        with self._telemetry.span("hsm encrypt"), self._pool.session() as pooled:
            return _encrypt(pooled, self._key(pooled), plaintext, associated_data)

    def decrypt(self, sealed: bytes, associated_data: bytes) -> bytes:
        """See HsmCipher."""
        with self._telemetry.span("hsm decrypt"), self._pool.session() as pooled:
            return _decrypt(self._key(pooled), sealed, associated_data)

    def _key(self, pooled: PooledSession) -> TokenKey:
        key = pooled.keys.get(self._name)
        if key is not None:
            pooled.keys.move_to_end(self._name)
            return key
        try:
            unwrapped = pooled.root(self._root_label).unwrap_key(
                ObjectClass.SECRET_KEY,
                KeyType.AES,
                self._wrapped,
                mechanism=Mechanism.AES_KEY_WRAP_PAD,
                capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
                template=dict(_GUARDED),
            )
        except GeneralError as error:  # SoftHSM2 again
            raise SealBrokenError from error
        return pooled.remember(self._name, unwrapped)


def _encrypt(pooled: PooledSession, key: TokenKey, plaintext: bytes, associated_data: bytes) -> bytes:
    nonce: bytes = pooled.session.generate_random(_NONCE_BYTES * 8)
    parameters = GCMParams(nonce, associated_data, _TAG_BITS)
    sealed: bytes = key.encrypt(plaintext, mechanism=Mechanism.AES_GCM, mechanism_param=parameters)
    return nonce + sealed


def _decrypt(key: TokenKey, sealed: bytes, associated_data: bytes) -> bytes:
    if len(sealed) < _NONCE_BYTES + _TAG_BITS // 8:
        raise SealBrokenError
    parameters = GCMParams(sealed[:_NONCE_BYTES], associated_data, _TAG_BITS)
    try:
        plaintext: bytes = key.decrypt(sealed[_NONCE_BYTES:], mechanism=Mechanism.AES_GCM, mechanism_param=parameters)
    except GeneralError as error:
        # What SoftHSM2 answers to a wrong tag, where others say CKR_ENCRYPTED_DATA_INVALID.
        raise SealBrokenError from error
    return plaintext


def _make_root_key(session: pkcs11.Session, label: str, capabilities: MechanismFlag) -> None:
    session.generate_key(KeyType.AES, 256, label=label, store=True, capabilities=capabilities, template=dict(_GUARDED))


def _root_versions(session: pkcs11.Session) -> list[int]:
    labels = (
        key.label
        for key in session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.TOKEN: True})
        if isinstance(key, pkcs11.SecretKey)
    )
    return [int(match[1]) for match in map(_ROOT.fullmatch, labels) if match]


def _root_label(version: int) -> str:
    return f"strongroom-root-{version}"


def _seal_label(version: int) -> str:
    return f"strongroom-seal-{version}"
