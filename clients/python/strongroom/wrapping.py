"""Wraps key material for import, as `ImportMethod` in the contract says, with nothing of the service but its public
key.
"""

from __future__ import annotations

import os
import re
from base64 import b64decode

from strongroom.errors import StrongroomError

OAEP_METHODS = ("RSA_OAEP_3072_SHA256", "RSA_OAEP_4096_SHA256")
KEY_WRAP_METHODS = ("RSA_AES_KEY_WRAP_3072_SHA256", "RSA_AES_KEY_WRAP_4096_SHA256")
DEFAULT_METHOD = KEY_WRAP_METHODS[1]
"""Carries every spec."""

_KEY_BYTES = 32
# What tools write before it, such as Bag Attributes, is passed over (RFC 7468 §2).
_PEM = re.compile(rb"^-----BEGIN ([A-Z0-9 ]+)-----\s*$.+?^-----END \1-----", re.MULTILINE | re.DOTALL)
_LINE_ENDS = re.compile(rb"\r\n?")
_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
# A SEQUENCE that begins with the INTEGER 1 and goes on with another SEQUENCE, the algorithm.
_PKCS8_VERSION_2 = re.compile(rb"\x30(?:[\x00-\x7f]|\x81.|\x82..)\x02\x01\x01\x30", re.DOTALL)


def wrap_for_import(material: bytes, public_key: bytes, method: str) -> bytes:
    """What ImportKeyMaterial takes: the material under the RSA public key (SubjectPublicKeyInfo in DER).

    `material` is the raw key for AES, SM4 and HMAC, 32 bytes of seed for X-Wing, and an unencrypted private key for the
    rest: PKCS#8 in DER, or any PEM, which is brought to that form, whatever stands before it in its file. Raises
    IMPORT_MATERIAL_INVALID for a PEM that holds no such key, for PKCS#8 version 2, for nothing at all, and for material
    that is too long for the method, FIELD_INVALID for an unknown method.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    wrapping_key = load_der_public_key(public_key)
    if not isinstance(wrapping_key, rsa.RSAPublicKey):
        raise StrongroomError("PUBLIC_KEY_INVALID", "the wrapping key is no RSA key", field="public_key")
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    if not material:
        raise _invalid("there is no material")
    material = _private_key(material)
    if method in OAEP_METHODS:
        try:
            return wrapping_key.encrypt(material, oaep)
        except ValueError as error:
            raise _invalid(f"the material is too long for {method}: use {KEY_WRAP_METHODS[1]}") from error
    if method in KEY_WRAP_METHODS:
        key = os.urandom(_KEY_BYTES)
        return wrapping_key.encrypt(key, oaep) + aes_key_wrap_with_padding(key, material)
    raise StrongroomError("FIELD_INVALID", f"{method} is not an import method", field="import_method")


def _private_key(material: bytes) -> bytes:
    """The material, or the private key in the PEM that it is, as PKCS#8 in DER."""
    text = _without_byte_order_mark(material)
    blocks = [(found[1].decode(), found[0]) for found in _PEM.finditer(_LINE_ENDS.sub(b"\n", text))]
    if not blocks:
        if _PKCS8_VERSION_2.match(material):
            raise _version_2()
        return material
    keys = [block for label, block in blocks if label.endswith("PRIVATE KEY")]
    if len(keys) != 1:
        found = f"{len(keys)} private keys" if keys else ", ".join(sorted({label for label, _ in blocks}))
        raise _invalid(f"the PEM holds {found}, where one private key is needed")
    return _loaded(keys[0] + b"\n")


def _loaded(pem: bytes) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )

    try:
        return load_pem_private_key(pem, None).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    except TypeError as error:
        raise _invalid("the private key is encrypted: decrypt it first, as `openssl pkey -in FILE` does") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        if _PKCS8_VERSION_2.match(_body(pem)):
            raise _version_2() from error
        raise _invalid("the PEM holds no private key of a known kind") from error


def _body(pem: bytes) -> bytes:
    try:
        return b64decode(b"".join(pem.splitlines()[1:-1]))
    except ValueError:
        return b""


def _without_byte_order_mark(material: bytes) -> bytes:
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if material.startswith(mark):
            try:
                text = material.decode(encoding)
            except UnicodeDecodeError:
                break
            return text.encode() if "-----BEGIN " in text else material
    return material


def _version_2() -> StrongroomError:
    return _invalid(
        "this is PKCS#8 version 2 (RFC 5958), which has the public key beside the private one: write it as version 1,"
        " without the public key"
    )


def _invalid(message: str) -> StrongroomError:
    return StrongroomError("IMPORT_MATERIAL_INVALID", message, field="material")
