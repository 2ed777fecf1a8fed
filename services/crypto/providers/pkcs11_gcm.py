"""AES-GCM inside a token, with nonces from the token."""

from __future__ import annotations

import pkcs11
from pkcs11 import GCMParams, Mechanism
from pkcs11.exceptions import GeneralError

from services.crypto.providers.pkcs11_sessions import TokenKey
from services.crypto.providers.provider import SealBrokenError

_NONCE_BYTES = 12
_TAG_BITS = 128


def encrypt(session: pkcs11.Session, key: TokenKey, plaintext: bytes, associated_data: bytes) -> bytes:
    """12 bytes of nonce, the ciphertext and 16 bytes of tag."""
    nonce: bytes = session.generate_random(_NONCE_BYTES * 8)
    parameters = GCMParams(nonce, associated_data, _TAG_BITS)
    sealed: bytes = key.encrypt(plaintext, mechanism=Mechanism.AES_GCM, mechanism_param=parameters)
    return nonce + sealed


def decrypt(key: TokenKey, sealed: bytes, associated_data: bytes) -> bytes:
    """The plaintext of what `encrypt` made. Raises SealBrokenError for anything else."""
    if len(sealed) < _NONCE_BYTES + _TAG_BITS // 8:
        raise SealBrokenError
    parameters = GCMParams(sealed[:_NONCE_BYTES], associated_data, _TAG_BITS)
    try:
        plaintext: bytes = key.decrypt(sealed[_NONCE_BYTES:], mechanism=Mechanism.AES_GCM, mechanism_param=parameters)
    except GeneralError as error:
        # What SoftHSM2 answers to a wrong tag, where others say CKR_ENCRYPTED_DATA_INVALID.
        raise SealBrokenError from error
    return plaintext
