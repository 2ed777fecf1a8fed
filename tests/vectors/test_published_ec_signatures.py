"""ECDSA on the NIST curves and secp256k1: RFC 6979 and NIST's CAVP, through gRPC.

What has no private key cannot be imported, which leaves out CAVP's SigVer and PKV. Nonces are random, so signatures are
verified, and those that Sign makes are verified outside.
"""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from strongroom import Client
from tests.support.vectors import published
from tests.vectors.conftest import ImportKey

CURVES = {"P-256": "EC_P256", "P-384": "EC_P384", "P-521": "EC_P521"}
HASHES = {"P-256": "SHA256", "P-384": "SHA384", "P-521": "SHA512"}
RFC_6979 = "asymmetric/ECDSA/RFC6979/evppkey_ecdsa_rfc6979.txt"


@pytest.mark.parametrize("curve", CURVES)
def test_rfc_6979(client: Client, import_key: ImportKey, curve: str) -> None:
    """Both messages of the RFC under the curve's own hash, each with its signature and with one that is altered."""
    _, _, following = published.text(RFC_6979).partition(f"PrivateKey={curve}_PRIV\n")
    private_key, _, _ = following.partition("\n\n")
    key = import_key(CURVES[curve], "SIGN_VERIFY", private_key.encode())
    given = [
        record
        for record in published.records(RFC_6979)
        if "DigestVerify" in record and record["Key"] == f"{curve}_PUB" and record["DigestVerify"] == HASHES[curve]
    ]
    assert [record.fields.get("Result", "") for record in given] == ["", "VERIFY_ERROR"] * 2
    for record in given:
        message = record["Input"].strip('"').encode()
        assert bool(client.verify(key, record.raw("Output"), message)) == ("Result" not in record)


@pytest.mark.parametrize(
    ("file", "section", "spec"),
    [
        ("FIPS_186-3", "P-256,SHA-256", "EC_P256"),
        ("FIPS_186-3", "P-384,SHA-384", "EC_P384"),
        ("FIPS_186-3", "P-521,SHA-512", "EC_P521"),
        ("SECP256K1", "K-256,SHA-256", "EC_SECP256K1"),
    ],
    ids=["P-256", "P-384", "P-521", "secp256k1"],
)
def test_cavp(client: Client, import_key: ImportKey, file: str, section: str, spec: str) -> None:
    """The first two of 15 keys for each NIST curve, of 225 for secp256k1, with a signature each."""
    found = (record for record in published.records(f"asymmetric/ECDSA/{file}/SigGen.txt") if record.section == section)
    for record in published.first(2, (record for record in found if "d" in record)):
        private_key = ec.derive_private_key(record.number("d"), curve_of(spec))
        assert private_key.public_key().public_numbers().x == record.number("Qx")
        key = import_key(spec, "SIGN_VERIFY", published.pkcs8(private_key))
        message, r, s = record.raw("Msg"), record.number("R"), record.number("S")

        assert client.verify(key, encode_dss_signature(r, s), message)
        for altered in (encode_dss_signature(r, s + 1), encode_dss_signature(r - 1, s), encode_dss_signature(s, r)):
            assert not client.verify(key, altered, message)
        assert not client.verify(key, encode_dss_signature(r, s), published.flipped(message))
        hashing = {"EC_P384": hashes.SHA384(), "EC_P521": hashes.SHA512()}.get(spec, hashes.SHA256())
        private_key.public_key().verify(client.sign(key, message).signature, message, ec.ECDSA(hashing))


def curve_of(spec: str) -> ec.EllipticCurve:
    return {
        "EC_P256": ec.SECP256R1(),
        "EC_P384": ec.SECP384R1(),
        "EC_P521": ec.SECP521R1(),
        "EC_SECP256K1": ec.SECP256K1(),
    }[spec]
