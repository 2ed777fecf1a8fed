"""Key material as it lies in files: a PEM is found whatever stands around it, and what it is not is told truly."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from strongroom import wrapping
from strongroom.errors import StrongroomError
from strongroom.wrapping import wrap_for_import

KEY = ec.generate_private_key(ec.SECP256R1())
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
SEC1 = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
DER = KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
ENCRYPTED = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
PARAMETERS = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
WRAPPING = (
    rsa.generate_private_key(65537, 2048).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
)


def version_2() -> bytes:
    """An Ed25519 key as PKCS#8 version 2 in DER (RFC 5958), with its public key."""
    key = Ed25519PrivateKey.generate()
    inner = b"\x02\x01\x01" + b"\x30\x05\x06\x03\x2b\x65\x70" + b"\x04\x22\x04\x20" + key.private_bytes_raw()
    content = inner + b"\x81\x21\x00" + key.public_key().public_bytes_raw()
    return bytes([0x30, len(content)]) + content


V2 = version_2()


@pytest.mark.parametrize(
    "material",
    [
        PEM,
        SEC1,
        PARAMETERS + SEC1,
        b"Bag Attributes\n    friendlyName: mine\nKey Attributes: <No Attributes>\n" + PEM,
        b"\xef\xbb\xbf" + PEM,
        PEM.decode().encode("utf-16"),
        b"\r\n\r\n" + PEM.replace(b"\n", b"\r\n"),
        PEM.replace(b"\n", b"\r"),
        b"# the key of 2026\n" + PEM + b"the end\n",
        PUBLIC + PEM,
        PEM.rstrip(b"\n"),
    ],
    ids=range(11),
)
def test_a_private_key_is_found_in_its_file(material: bytes) -> None:
    assert wrapping._private_key(material) == DER


@pytest.mark.parametrize("material", [DER, bytes(32), b"x" * 32, b"-----BEGIN nothing", b"\xef\xbb\xbf" + bytes(13)])
def test_what_is_no_pem_stays_as_it_is(material: bytes) -> None:
    assert wrapping._private_key(material) == material


@pytest.mark.parametrize(
    ("material", "told"),
    [
        (b"", "there is no material"),
        (PUBLIC, "PUBLIC KEY, where one private key"),
        (PEM + PEM, "2 private keys"),
        (ENCRYPTED, "encrypted"),
        (V2, "version 2"),
        (b"-----BEGIN PRIVATE KEY-----\n" + base64.encodebytes(V2) + b"-----END PRIVATE KEY-----\n", "version 2"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "known kind"),
    ],
)
def test_what_is_wrong_is_told_truly(material: bytes, told: str) -> None:
    with pytest.raises(StrongroomError, match=told) as refused:
        wrap_for_import(material, WRAPPING, wrapping.DEFAULT_METHOD)
    assert (refused.value.reason, refused.value.field) == ("IMPORT_MATERIAL_INVALID", "material")
