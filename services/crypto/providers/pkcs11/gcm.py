"""AES-GCM inside a token, with nonces from the token."""

from __future__ import annotations

from pkcs11 import GCMParams, Mechanism

from services.crypto.provider import SealBrokenError
from services.crypto.providers.pkcs11.connection import PooledSession
from services.crypto.providers.pkcs11.module import TokenKey
from services.runtime.aes_gcm import NONCE_BYTES, TAG_BYTES

_TAG_BITS = 8 * TAG_BYTES


def encrypt(pooled: PooledSession, key: TokenKey, plaintext: bytes, associated_data: bytes) -> bytes:
    """12 bytes of nonce, the ciphertext and 16 bytes of tag."""
    nonce: bytes = pooled.session.generate_random(NONCE_BYTES * 8)
    parameters = GCMParams(nonce, associated_data, _TAG_BITS)
    sealed: bytes = key.encrypt(plaintext, mechanism=Mechanism.AES_GCM, mechanism_param=parameters)
    return nonce + sealed


def decrypt(pooled: PooledSession, key: TokenKey, sealed: bytes, associated_data: bytes) -> bytes:
    """The plaintext of what `encrypt` made. Raises SealBrokenError for anything else."""
    if len(sealed) < NONCE_BYTES + TAG_BYTES:
        raise SealBrokenError
    return pooled.judged(lambda: decrypt_intact(key, sealed, associated_data))


def decrypt_intact(key: TokenKey, sealed: bytes, associated_data: bytes) -> bytes:
    """The plaintext of what is known to be intact, which `encrypt` made: any PKCS11Error is the token's."""
    parameters = GCMParams(sealed[:NONCE_BYTES], associated_data, _TAG_BITS)
    plaintext: bytes = key.decrypt(sealed[NONCE_BYTES:], mechanism=Mechanism.AES_GCM, mechanism_param=parameters)
    return plaintext
