"""Wraps key material for import, as `ImportMethod` in the contract says, with nothing of the service but its public
key.
"""

from __future__ import annotations

import os

from strongroom.errors import StrongroomError

OAEP_METHODS = ("RSA_OAEP_3072_SHA256", "RSA_OAEP_4096_SHA256")
KEY_WRAP_METHODS = ("RSA_AES_KEY_WRAP_3072_SHA256", "RSA_AES_KEY_WRAP_4096_SHA256")
DEFAULT_METHOD = KEY_WRAP_METHODS[1]
"""Carries every spec."""

_PEM = b"-----BEGIN "
_KEY_BYTES = 32


def wrap_for_import(material: bytes, public_key: bytes, method: str) -> bytes:
    """What ImportKeyMaterial takes: the material under the RSA public key (SubjectPublicKeyInfo in DER).

    `material` is the raw key for AES, SM4 and HMAC, 32 bytes of seed for X-Wing, and an unencrypted private key for the
    rest: PKCS#8 in DER, or any PEM, which is brought to that form. Raises IMPORT_MATERIAL_INVALID for a PEM that holds
    no such key and for material that is too long for the method, FIELD_INVALID for an unknown method.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    wrapping_key = load_der_public_key(public_key)
    if not isinstance(wrapping_key, rsa.RSAPublicKey):
        raise StrongroomError("PUBLIC_KEY_INVALID", "the wrapping key is no RSA key", field="public_key")
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    material = _private_key_of_pem(material) if material.startswith(_PEM) else material
    if method in OAEP_METHODS:
        try:
            return wrapping_key.encrypt(material, oaep)
        except ValueError as error:
            raise _invalid(f"the material is too long for {method}: use {KEY_WRAP_METHODS[1]}") from error
    if method in KEY_WRAP_METHODS:
        key = os.urandom(_KEY_BYTES)
        return wrapping_key.encrypt(key, oaep) + aes_key_wrap_with_padding(key, material)
    raise StrongroomError("FIELD_INVALID", f"{method} is not an import method", field="import_method")


def _private_key_of_pem(pem: bytes) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )

    try:
        return load_pem_private_key(pem, None).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _invalid("the PEM holds no unencrypted private key") from error


def _invalid(message: str) -> StrongroomError:
    return StrongroomError("IMPORT_MATERIAL_INVALID", message, field="material")
