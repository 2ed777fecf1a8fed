"""ECDH on the NIST curves (NIST's CAVP) and X25519 (RFC 7748), through gRPC."""

from __future__ import annotations

from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from strongroom import Client
from tests.support.clients import refusal
from tests.support.vectors import published
from tests.support.vectors.published import Record
from tests.vectors.conftest import ImportKey

CURVES = {"P256": ec.SECP256R1(), "P384": ec.SECP384R1(), "P521": ec.SECP521R1()}
SECTIONS = {"P256": "EC - SHA256", "P384": "ED - SHA384", "P521": "EE - SHA512"}
CORRECT, LEADING_ZEROS = "P (0 ", "P (13"


def spki(curve: ec.EllipticCurve, x: int, y: int) -> bytes | None:
    """SubjectPublicKeyInfo of a point, whether or not it is on the curve; None for one that has no encoding."""
    size = (curve.key_size + 7) // 8
    if max(x, y) >= 1 << 8 * size:
        return None
    some = ec.derive_private_key(1, curve).public_key()
    encoded = some.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded[: -2 * size] + x.to_bytes(size, "big") + y.to_bytes(size, "big")


@pytest.mark.parametrize("curve", CURVES)
def test_ecdh(client: Client, import_key: ImportKey, curve: str) -> None:
    """Three of 30 keys for each curve, two of them for a secret that begins with zeros; and as peers of the first key
    every point of CAVP's ECDH and PKV files, those that are not on the curve included."""
    ours = CURVES[curve]
    found = [
        record
        for record in published.records("asymmetric/ECDH/KASValidityTest_ECCStaticUnified_NOKC_ZZOnly_init.fax")
        if record.section == SECTIONS[curve] and "Z" in record
    ]
    agreeing = [*with_result(found, LEADING_ZEROS)[:2], *with_result(found, CORRECT)[:1]]
    assert len(agreeing) == 3
    keys = []
    for record in agreeing:
        private_key = ec.derive_private_key(record.number("dsIUT"), ours)
        keys.append(import_key(f"EC_{curve}", "KEY_AGREEMENT", published.pkcs8(private_key)))
        peer = spki(ours, record.number("QsCAVSx"), record.number("QsCAVSy"))
        assert peer is not None
        assert client.asymmetric.derive_shared_secret(keys[-1], peer).shared_secret == record.raw("Z")

    peers = {(record.number("QsCAVSx"), record.number("QsCAVSy")): "CAVS's" not in record["Result"] for record in found}
    peers |= {
        (record.number("Qx"), record.number("Qy")): record.valid
        for record in published.records("asymmetric/ECDSA/FIPS_186-3/PKV.rsp")
        if record.section == f"{curve[0]}-{curve[1:]}"
    }
    refused = 0
    for point, on_curve in peers.items():
        peer = spki(ours, *point)
        if peer is None:
            assert not on_curve
        elif on_curve:
            assert client.asymmetric.derive_shared_secret(keys[0], peer).shared_secret
        else:
            error = refusal(partial(client.asymmetric.derive_shared_secret, keys[0], peer))
            assert (error.reason, error.field) == ("PUBLIC_KEY_INVALID", "peer_public_key")
            refused += 1
    assert refused >= 4


def with_result(found: list[Record], result: str) -> list[Record]:
    return [record for record in found if record["Result"].startswith(result)]


def test_x25519(client: Client, import_key: ImportKey) -> None:
    """The RFC's two exchanges, and the first step of its iteration."""
    found = list(published.records("asymmetric/X25519/rfc7748.txt"))
    assert len(found) == 3
    for record in found:
        private_key = x25519.X25519PrivateKey.from_private_bytes(record.raw("INPUT_SCALAR"))
        key = import_key("X25519", "KEY_AGREEMENT", published.pkcs8(private_key))
        peer = x25519.X25519PublicKey.from_public_bytes(record.raw("INPUT_U"))
        encoded = peer.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert client.asymmetric.derive_shared_secret(key, encoded).shared_secret == record.raw("OUTPUT_U")
