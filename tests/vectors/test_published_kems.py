"""ML-KEM: known answers of its reference implementation; HPKE: the vectors of RFC 9180 and of draft-ietf-hpke-pq."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom import Client
from tests.support.clients import refusal
from tests.support.vectors import documented, hpke, published
from tests.vectors.conftest import ImportKey

PRIVATE_KEYS: dict[int, type[Any]] = {768: mlkem.MLKEM768PrivateKey, 1024: mlkem.MLKEM1024PrivateKey}
CURVES = {hpke.P256: ec.SECP256R1(), hpke.P384: ec.SECP384R1(), hpke.P521: ec.SECP521R1()}
FILES = ("HPKE/test-vectors.json", "HPKE/hpke-pq-test-vectors.json")

Vector = Mapping[str, Any]


@pytest.mark.parametrize("level", PRIVATE_KEYS)
def test_ml_kem(client: Client, import_key: ImportKey, level: int) -> None:
    """The first two of 1,000, each with a key of its own; with the ciphertext that is none of the key, for which
    FIPS 203 has decapsulation answer a secret that only the key's owner can predict."""
    for record in published.first(2, published.records(f"asymmetric/MLKEM/kat_MLKEM_{level}.rsp")):
        private_key = PRIVATE_KEYS[level].from_seed_bytes(record.raw("d") + record.raw("z"))
        key = import_key(f"ML_KEM_{level}", "KEY_ENCAPSULATION", published.pkcs8(private_key))
        assert client.asymmetric.get_public_key(key).der.endswith(record.raw("pk"))
        assert client.asymmetric.decapsulate(key, record.raw("ct")).shared_secret == record.raw("ss")
        assert client.asymmetric.decapsulate(key, record.raw("ct_n")).shared_secret == record.raw("ss_n")
        for wrong in (record.raw("ct")[:-1], record.raw("ct") + b"\0"):
            assert refusal(partial(client.asymmetric.decapsulate, key, wrong)).reason == "CIPHERTEXT_INVALID"


def hpke_vectors() -> list[Vector]:
    """Every vector in base mode whose KEM Strongroom has, whatever the KDF and the AEAD."""
    found = [vector for file in FILES for vector in json.loads(published.text(file))]
    return [vector for vector in found if vector["mode"] == 0 and vector["kem_id"] in hpke.ENCAPSULATED_BYTES]


def private_key_of(vector: Vector) -> hpke.PrivateKey:
    """The receiver's private key."""
    kem, encoded = vector["kem_id"], bytes.fromhex(vector["skRm"])
    if kem in CURVES:
        return ec.derive_private_key(int.from_bytes(encoded, "big"), CURVES[kem])
    if kem == hpke.X25519:
        return x25519.X25519PrivateKey.from_private_bytes(encoded)
    if kem == hpke.X_WING:
        return hpke.XWingPrivateKey(encoded)
    if kem == hpke.ML_KEM_768:
        return mlkem.MLKEM768PrivateKey.from_seed_bytes(encoded)
    return mlkem.MLKEM1024PrivateKey.from_seed_bytes(encoded)


def test_the_reader_of_the_formats_is_hpke() -> None:
    """Decapsulation of all, and the key schedule and first message of those with HKDF and AES-GCM. The reader then
    opens exports, and makes what the next test decrypts."""
    vectors = hpke_vectors()
    assert {vector["kem_id"] for vector in vectors} == set(hpke.ENCAPSULATED_BYTES)
    scheduled = set()
    for vector in vectors:
        shared_secret = hpke.decapsulate(vector["kem_id"], private_key_of(vector), bytes.fromhex(vector["enc"]))
        assert shared_secret.hex() == vector["shared_secret"]
        if vector["kdf_id"] not in (hpke.HKDF_SHA256, hpke.HKDF_SHA384, hpke.HKDF_SHA512) or vector["aead_id"] > 2:
            continue
        suite = hpke.Suite(vector["kem_id"], vector["kdf_id"], vector["aead_id"])
        key, nonce = suite.schedule(shared_secret, bytes.fromhex(vector["info"]))
        assert (key.hex(), nonce.hex()) == (vector["key"], vector["base_nonce"])
        first = vector["encryptions"][0]
        sealed, bound = bytes.fromhex(first["ct"]), bytes.fromhex(first["aad"])
        assert AESGCM(key).decrypt(nonce, sealed, bound).hex() == first["pt"]
        scheduled.add(suite)
    assert len(scheduled) >= 8


@pytest.mark.parametrize(
    ("kem", "spec"),
    [(hpke.ML_KEM_768, "ML_KEM_768"), (hpke.ML_KEM_1024, "ML_KEM_1024"), (hpke.X_WING, "X_WING")],
    ids=["ML-KEM-768", "ML-KEM-1024", "X-Wing"],
)
def test_hpke(client: Client, import_key: ImportKey, kem: int, spec: str) -> None:
    """The published vectors have associated data, and an `info` that is no encryption context, which AsymmetricDecrypt
    has no place for. So the published encapsulated key and its shared secret are put to use with an `info` and a
    message of Strongroom's format; the key schedule in between is that of the test above."""
    suite = hpke.Suite(kem, hpke.HKDF_SHA256, hpke.AES_256_GCM)
    for vector in (vector for vector in hpke_vectors() if vector["kem_id"] == kem):
        private_key = private_key_of(vector)
        raw = bytes.fromhex(vector["skRm"])
        material = raw if isinstance(private_key, hpke.XWingPrivateKey) else published.pkcs8(private_key)
        key = import_key(spec, "ENCRYPT_DECRYPT", material)
        assert client.asymmetric.get_public_key(key).der.endswith(bytes.fromhex(vector["pkRm"]))

        context, plaintext = {"tenant": "blue"}, bytes.fromhex(vector["encryptions"][0]["pt"])
        schedule = suite.schedule(bytes.fromhex(vector["shared_secret"]), documented.canonical_context(context))
        message = bytes.fromhex(vector["enc"]) + AESGCM(schedule[0]).encrypt(schedule[1], plaintext, None)
        assert client.asymmetric.decrypt(key, message, context).plaintext == plaintext
        for wrong, bound in (
            (published.flipped(message), context),
            (published.flipped(message, 0), context),
            (message, {}),
        ):
            assert refusal(partial(client.asymmetric.decrypt, key, wrong, bound)).reason == "CIPHERTEXT_INVALID"
        made = client.asymmetric.encrypt(key, plaintext, context).ciphertext
        assert suite.open(private_key, documented.canonical_context(context), made) == plaintext
