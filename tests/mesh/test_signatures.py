"""Signatures and MACs over a real mesh: every spec, in software and in the token, checked by another library's eyes."""

from __future__ import annotations

import hashlib
import hmac as stdlib_hmac

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from deploy.dev.mesh import Mesh
from strongroom import Client, StrongroomError
from tests.support.clients import refusal

MESSAGE = b"the message"
RSA = ("RSA_2048", "RSA_3072", "RSA_4096")
EC = {"EC_P256": "sha256", "EC_P384": "sha384", "EC_P521": "sha512", "EC_SECP256K1": "sha256"}
ML_DSA = ("ML_DSA_44", "ML_DSA_65", "ML_DSA_87")
SIGNING = (*RSA, *EC, "ED25519", *ML_DSA)
HMACS = {"HMAC_256": "sha256", "HMAC_384": "sha384", "HMAC_512": "sha512"}
# What SoftHSM2 keeps: it wraps no Edwards keys, and knows no ML-DSA.
IN_SOFTHSM = ("RSA_2048", *EC)


def signing_key(client: Client, name: str, spec: str, level: str = "SOFTWARE") -> str:
    return client.keys.create(name, spec=spec, usage="SIGN_VERIFY", protection_level=level).name


@pytest.mark.parametrize("spec", SIGNING)
def test_a_signature_verifies_and_of_nothing_else(client: Client, name: str, spec: str) -> None:
    key = signing_key(client, name, spec)

    made = client.sign(key, MESSAGE)

    assert made.key_version == f"{key}/versions/1"
    assert client.verify(key, made.signature, MESSAGE)
    assert not client.verify(key, made.signature, MESSAGE + b".")
    assert not client.verify(key, made.signature[:-1] + bytes([made.signature[-1] ^ 1]), MESSAGE)
    assert client.verify(made.key_version, made.signature, MESSAGE)


@pytest.mark.parametrize("spec", IN_SOFTHSM)
def test_the_token_signs(client: Client, mesh: Mesh, name: str, spec: str) -> None:
    if mesh.provider == "local":
        assert refusal(lambda: signing_key(client, name, spec, "HSM")).reason == "UNSUPPORTED_IN_HSM"
        return
    key = signing_key(client, name, spec, "HSM")
    for algorithm in client.asymmetric.get_public_key(key).algorithms:
        made = client.sign(key, MESSAGE, algorithm=algorithm)
        assert client.verify(key, made.signature, MESSAGE, algorithm=algorithm)
        assert not client.verify(key, made.signature, MESSAGE[1:], algorithm=algorithm)


@pytest.mark.parametrize("spec", ["ED25519", "ML_DSA_65"])
def test_what_the_token_lacks_is_refused_and_not_made_in_software(client: Client, name: str, spec: str) -> None:
    assert refusal(lambda: signing_key(client, name, spec, "HSM")).reason == "UNSUPPORTED_IN_HSM"
    assert refusal(lambda: client.keys.get(name)).reason == "KEY_NOT_FOUND"


@pytest.mark.parametrize("digest", ["SHA_256", "SHA_384", "SHA_512"])
@pytest.mark.parametrize("scheme", ["RSASSA_PSS", "RSASSA_PKCS1_V1_5"])
def test_rsa_signatures_verify_outside(client: Client, name: str, scheme: str, digest: str) -> None:
    key = signing_key(client, name, "RSA_2048")
    public = load_pem_public_key(client.asymmetric.get_public_key(key).pem.encode())
    hashing = getattr(hashes, digest.replace("_", ""))()
    pad = padding.PSS(padding.MGF1(hashing), hashing.digest_size) if scheme == "RSASSA_PSS" else padding.PKCS1v15()
    assert isinstance(public, rsa.RSAPublicKey)

    of_message = client.sign(key, MESSAGE, algorithm=f"{scheme}_{digest}").signature
    hashed = hashlib.new(hashing.name, MESSAGE).digest()
    of_digest = client.sign(key, digest=hashed, algorithm=f"{scheme}_{digest}").signature

    for signature in (of_message, of_digest):
        public.verify(signature, MESSAGE, pad, hashing)
    assert client.verify(key, of_message, digest=hashed, algorithm=f"{scheme}_{digest}")


@pytest.mark.parametrize("spec", EC)
def test_ecdsa_signs_digests_and_verifies_outside(client: Client, name: str, spec: str) -> None:
    key = signing_key(client, name, spec)
    hashed = hashlib.new(EC[spec], MESSAGE).digest()
    public = load_der_public_key(client.asymmetric.get_public_key(key).der)
    assert isinstance(public, ec.EllipticCurvePublicKey)

    signature = client.sign(key, digest=hashed).signature

    public.verify(signature, hashed, ec.ECDSA(utils.Prehashed(getattr(hashes, EC[spec].upper())())))
    assert client.verify(key, signature, MESSAGE)


@pytest.mark.parametrize(
    ("spec", "size"),
    [("EC_P256", 31), ("EC_P384", 32), ("RSA_2048", 0), ("ML_DSA_65", 32), ("ED25519", 64)],
)
def test_a_digest_of_the_wrong_length_is_refused(client: Client, name: str, spec: str, size: int) -> None:
    key = signing_key(client, name, spec)
    error = refusal(lambda: client.sign(key, digest=bytes(size)))
    assert (error.reason, error.field) == ("FIELD_INVALID", "digest")
    error = refusal(lambda: client.verify(key, b"signature", digest=bytes(size)))
    assert (error.reason, error.field) == ("FIELD_INVALID", "digest")


@pytest.mark.parametrize(("spec", "algorithm"), [("RSA_2048", "ECDSA_SHA_256"), ("EC_P256", "ECDSA_SHA_384")])
def test_an_algorithm_that_does_not_fit_the_key_is_refused(
    client: Client, name: str, spec: str, algorithm: str
) -> None:
    key = signing_key(client, name, spec)
    assert refusal(lambda: client.sign(key, MESSAGE, algorithm=algorithm)).reason == "ALGORITHM_INVALID"
    assert refusal(lambda: client.verify(key, b"s", MESSAGE, algorithm=algorithm)).reason == "ALGORITHM_INVALID"


def test_what_is_signed_has_limits(client: Client, name: str) -> None:
    key = signing_key(client, name, "ED25519")
    assert client.verify(key, client.sign(key, b"").signature, b"")
    assert client.sign(key, bytes(65_536)).signature
    assert refusal(lambda: client.sign(key, bytes(65_537))).reason == "FIELD_TOO_LARGE"
    assert refusal(lambda: client.sign(key)).reason == "FIELD_REQUIRED"
    assert refusal(lambda: client.verify(key, b"", MESSAGE)).field == "signature"


def test_a_batch_of_signatures_has_an_outcome_for_each(client: Client, name: str) -> None:
    key = signing_key(client, name, "EC_P256")

    batch = client.batch_sign(key, [b"one", bytes(65_537), b"three"])

    first, second, third = batch.outcomes
    assert isinstance(second, StrongroomError)
    assert second.reason == "FIELD_TOO_LARGE"
    for message, outcome in ((b"one", first), (b"three", third)):
        assert not isinstance(outcome, StrongroomError)
        assert client.verify(key, outcome.signature, message)
    (event,) = client.audit.events.list(resource=key, action="crypto:Sign")
    assert (event.item_count, event.failed_item_count) == (3, 1)


@pytest.mark.parametrize("spec", HMACS)
@pytest.mark.parametrize("level", ["SOFTWARE", "HSM"])
def test_a_mac_verifies_and_of_nothing_else(client: Client, mesh: Mesh, name: str, spec: str, level: str) -> None:
    if (mesh.provider, level) == ("local", "HSM"):
        assert refusal(lambda: client.keys.create(name, spec=spec, protection_level=level)).reason == (
            "UNSUPPORTED_IN_HSM"
        )
        return
    key = client.keys.create(name, spec=spec, protection_level=level).name

    made = client.generate_mac(key, MESSAGE)

    assert len(made.mac) == hashlib.new(HMACS[spec]).digest_size
    assert client.verify_mac(key, MESSAGE, made.mac)
    assert not client.verify_mac(key, MESSAGE + b".", made.mac)
    assert not client.verify_mac(key, MESSAGE, made.mac[:-1])
    # Under a key of the caller's own it would be another one.
    assert made.mac != stdlib_hmac.digest(b"", MESSAGE, HMACS[spec])


def test_what_is_authenticated_has_limits(client: Client, name: str) -> None:
    key = client.keys.create(name, spec="HMAC_256").name
    assert refusal(lambda: client.generate_mac(key, b"")).reason == "FIELD_REQUIRED"
    assert refusal(lambda: client.generate_mac(key, bytes(65_537))).reason == "FIELD_TOO_LARGE"
    assert refusal(lambda: client.verify_mac(key, b"m", b"")).field == "mac"


def test_a_key_is_for_its_usage_alone(client: Client, name: str, key: str) -> None:
    signing = signing_key(client, f"{name}-2", "RSA_2048")
    wrong = (
        lambda: client.sign(key, MESSAGE),
        lambda: client.asymmetric.get_public_key(key),
        lambda: client.generate_mac(key, MESSAGE),
        lambda: client.encrypt(signing, MESSAGE),
        lambda: client.generate_data_key(signing),
        lambda: client.asymmetric.encrypt(signing, MESSAGE),
        lambda: client.asymmetric.encapsulate(signing),
        lambda: client.asymmetric.derive_shared_secret(signing, client.asymmetric.get_public_key(signing).der),
    )
    assert {refusal(work).reason for work in wrong} == {"KEY_USAGE_INVALID"}


@pytest.mark.parametrize(
    ("spec", "usage", "reason"),
    [
        ("RSA_2048", "", "FIELD_REQUIRED"),
        ("EC_P256", "ENCRYPT_DECRYPT", "KEY_USAGE_INVALID"),
        ("AES_256", "SIGN_VERIFY", "KEY_USAGE_INVALID"),
    ],
)
def test_a_usage_has_to_fit_the_spec(client: Client, name: str, spec: str, usage: str, reason: str) -> None:
    error = refusal(lambda: client.keys.create(name, spec=spec, usage=usage))
    assert (error.reason, error.field) == (reason, "key.usage")
