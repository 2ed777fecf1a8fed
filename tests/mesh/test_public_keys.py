"""Asymmetric encryption, key agreement, encapsulation and exports over a real mesh, against keys held outside."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mlkem, padding, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key

from deploy.dev.mesh import Mesh
from strongroom import Client
from tests.support.clients import refusal

CURVES = {"EC_P256": ec.SECP256R1(), "EC_P384": ec.SECP384R1(), "EC_P521": ec.SECP521R1()}
HPKE = ("ML_KEM_768", "ML_KEM_1024", "X_WING")
RSA_LIMITS = {"RSA_2048": 190, "RSA_3072": 318, "RSA_4096": 446}
INFO = b"strongroom exported data key v1"


def spki(key: PrivateKeyTypes) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def oaep() -> padding.OAEP:
    return padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


@pytest.mark.parametrize("spec", RSA_LIMITS)
def test_rsa_encrypts_up_to_its_limit(client: Client, name: str, spec: str) -> None:
    key = client.keys.create(name, spec=spec, usage="ENCRYPT_DECRYPT").name
    largest = b"\1" * RSA_LIMITS[spec]

    sealed = client.asymmetric.encrypt(key, largest)

    assert sealed.algorithm == "RSAES_OAEP_SHA_256"
    assert client.asymmetric.decrypt(sealed.key_version, sealed.ciphertext).plaintext == largest
    assert refusal(lambda: client.asymmetric.encrypt(key, largest + b"\1")).reason == "FIELD_TOO_LARGE"
    assert refusal(lambda: client.asymmetric.encrypt(key, b"")).reason == "FIELD_REQUIRED"
    assert refusal(lambda: client.asymmetric.decrypt(key, sealed.ciphertext[:-1])).reason == "CIPHERTEXT_INVALID"
    assert refusal(lambda: client.asymmetric.encrypt(key, b"x", {"a": "b"})).field == "encryption_context"


@pytest.mark.parametrize("spec", HPKE)
def test_hpke_binds_the_encryption_context(client: Client, name: str, spec: str) -> None:
    key = client.keys.create(name, spec=spec, usage="ENCRYPT_DECRYPT").name
    sealed = client.asymmetric.encrypt(key, b"plaintext", {"a": "b"})

    assert client.asymmetric.decrypt(key, sealed.ciphertext, {"a": "b"}).plaintext == b"plaintext"
    assert refusal(lambda: client.asymmetric.decrypt(key, sealed.ciphertext)).reason == "CIPHERTEXT_INVALID"
    assert refusal(lambda: client.asymmetric.decrypt(key, b"short", {"a": "b"})).reason == "CIPHERTEXT_INVALID"
    assert refusal(lambda: client.asymmetric.encrypt(key, bytes(65_537))).reason == "FIELD_TOO_LARGE"


def test_hpke_ciphertexts_come_from_outside_too(client: Client, name: str) -> None:
    key = client.keys.create(name, spec="ML_KEM_768", usage="ENCRYPT_DECRYPT").name
    raw = client.asymmetric.get_public_key(key)
    public = mlkem.MLKEM768PublicKey.from_public_bytes(raw.der[-1184:])

    sealed = Suite(KEM.MLKEM768, KDF.HKDF_SHA256, AEAD.AES_256_GCM).encrypt(b"from outside", public)

    assert client.asymmetric.decrypt(key, sealed).plaintext == b"from outside"


def test_rsa_encryption_in_a_token_that_lacks_oaep_with_sha_256_is_refused(client: Client, name: str) -> None:
    # SoftHSM2 2.6 takes OAEP with SHA-1 alone: the key is tried once before it is answered.
    error = refusal(lambda: client.keys.create(name, spec="RSA_2048", usage="ENCRYPT_DECRYPT", protection_level="HSM"))
    assert error.reason == "UNSUPPORTED_IN_HSM"


@pytest.mark.parametrize("spec", CURVES)
@pytest.mark.parametrize("level", ["SOFTWARE", "HSM"])
def test_both_sides_derive_one_secret(client: Client, mesh: Mesh, name: str, spec: str, level: str) -> None:
    if (mesh.provider, level) == ("local", "HSM"):
        error = refusal(lambda: client.keys.create(name, spec=spec, usage="KEY_AGREEMENT", protection_level=level))
        assert error.reason == "UNSUPPORTED_IN_HSM"
        return
    key = client.keys.create(name, spec=spec, usage="KEY_AGREEMENT", protection_level=level).name
    ours = ec.generate_private_key(CURVES[spec])
    theirs = ec.EllipticCurvePublicKey.from_encoded_point(
        CURVES[spec], _point(client.asymmetric.get_public_key(key).der)
    )

    derived = client.asymmetric.derive_shared_secret(key, spki(ours))

    assert derived.shared_secret == ours.exchange(ec.ECDH(), theirs)
    assert derived.shared_secret.hex() not in repr(derived)


def test_x25519_derives_and_refuses_points_of_small_order(client: Client, name: str) -> None:
    key = client.keys.create(name, spec="X25519").name
    ours = x25519.X25519PrivateKey.generate()
    theirs = x25519.X25519PublicKey.from_public_bytes(client.asymmetric.get_public_key(key).der[-32:])
    assert client.asymmetric.derive_shared_secret(key, spki(ours)).shared_secret == ours.exchange(theirs)
    small = x25519.X25519PublicKey.from_public_bytes(bytes(32))
    encoded = small.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert refusal(lambda: client.asymmetric.derive_shared_secret(key, encoded)).reason == "PUBLIC_KEY_INVALID"


@pytest.mark.parametrize("peer", [b"", b"no key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_a_malformed_public_key_is_refused(client: Client, name: str, peer: bytes) -> None:
    key = client.keys.create(name, spec="EC_P256", usage="KEY_AGREEMENT").name
    error = refusal(lambda: client.asymmetric.derive_shared_secret(key, peer))
    assert error.reason == ("PUBLIC_KEY_INVALID" if peer else "FIELD_REQUIRED")
    assert error.field == "peer_public_key"


def test_a_peer_on_another_curve_is_refused(client: Client, name: str) -> None:
    key = client.keys.create(name, spec="EC_P256", usage="KEY_AGREEMENT").name
    for other in (ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()):
        error = refusal(partial(client.asymmetric.derive_shared_secret, key, spki(other)))
        assert error.reason == "PUBLIC_KEY_INVALID"


@pytest.mark.parametrize("spec", ["ML_KEM_768", "ML_KEM_1024"])
def test_what_was_encapsulated_is_decapsulated(client: Client, name: str, spec: str) -> None:
    key = client.keys.create(name, spec=spec, usage="KEY_ENCAPSULATION").name

    made = client.asymmetric.encapsulate(key)

    assert client.asymmetric.decapsulate(made.key_version, made.ciphertext).shared_secret == made.shared_secret
    altered = bytes([made.ciphertext[0] ^ 1]) + made.ciphertext[1:]
    assert client.asymmetric.decapsulate(key, altered).shared_secret != made.shared_secret
    assert refusal(lambda: client.asymmetric.decapsulate(key, made.ciphertext[:-1])).reason == "CIPHERTEXT_INVALID"
    assert refusal(lambda: client.asymmetric.decapsulate(key, b"")).reason == "FIELD_REQUIRED"


def test_a_public_key_has_its_fingerprint(client: Client, name: str) -> None:
    key = client.keys.create(name, spec="EC_P256", usage="SIGN_VERIFY").name
    public = client.asymmetric.get_public_key(f"{key}/versions/1")
    assert public.fingerprint == hashlib.sha256(public.der).digest()
    assert (public.spec, public.usage, public.algorithms) == ("EC_P256", "SIGN_VERIFY", ("ECDSA_SHA_256",))
    assert refusal(lambda: client.asymmetric.get_public_key(f"{key}/versions/2")).reason == "KEY_VERSION_NOT_FOUND"


TARGETS: dict[str, tuple[Callable[[], PrivateKeyTypes], Suite | None]] = {
    "rsa": (lambda: rsa.generate_private_key(65537, 2048), None),
    "p256": (
        lambda: ec.generate_private_key(ec.SECP256R1()),
        Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    ),
    "p384": (
        lambda: ec.generate_private_key(ec.SECP384R1()),
        Suite(KEM.P384, KDF.HKDF_SHA384, AEAD.AES_256_GCM),
    ),
    "p521": (
        lambda: ec.generate_private_key(ec.SECP521R1()),
        Suite(KEM.P521, KDF.HKDF_SHA512, AEAD.AES_256_GCM),
    ),
    "x25519": (x25519.X25519PrivateKey.generate, Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)),
    "ml-kem": (mlkem.MLKEM768PrivateKey.generate, Suite(KEM.MLKEM768, KDF.HKDF_SHA256, AEAD.AES_256_GCM)),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_a_data_key_is_exported_to_a_public_key(client: Client, key: str, kind: str) -> None:
    generate, suite = TARGETS[kind]
    recipient = generate()
    made = client.generate_data_key(key, {"a": "b"})

    exported = client.data_keys.export(made.ciphertext, spki(recipient), {"a": "b"})
    fresh = client.data_keys.generate_and_export(key, spki(recipient), byte_count=64)

    def opened(sealed: bytes) -> bytes:
        if isinstance(recipient, rsa.RSAPrivateKey):
            return recipient.decrypt(sealed, oaep())
        assert suite is not None
        return suite.decrypt(sealed, recipient, INFO)  # type: ignore[arg-type]

    assert opened(exported.exported_key) == made.plaintext
    assert exported.public_key_fingerprint == hashlib.sha256(spki(recipient)).digest()
    assert opened(fresh.exported_key) == client.decrypt(fresh.ciphertext).plaintext


def test_what_cannot_be_exported_is_refused(client: Client, key: str) -> None:
    made = client.generate_data_key(key, byte_count=191)
    small = spki(rsa.generate_private_key(65537, 2048))
    weak = spki(rsa.generate_private_key(65537, 1024))  # noqa: S505  # to be refused
    signing = spki(ed25519.Ed25519PrivateKey.generate())

    assert refusal(lambda: client.data_keys.export(made.ciphertext, small)).reason == "FIELD_TOO_LARGE"
    too_many = refusal(lambda: client.data_keys.generate_and_export(key, small, byte_count=191))
    assert (too_many.reason, too_many.field) == ("FIELD_INVALID", "number_of_bytes")
    for target in (weak, signing, b"none"):
        error = refusal(partial(client.data_keys.export, made.ciphertext, target))
        assert (error.reason, error.field) == ("PUBLIC_KEY_INVALID", "target.public_key")
    wrong = refusal(lambda: client.data_keys.export(made.ciphertext, small, algorithm="HPKE_P256"))
    assert wrong.reason == "ALGORITHM_INVALID"


@pytest.mark.parametrize("spec", ["RSA_2048", "EC_P384", "ED25519", "X25519", "ML_DSA_44", "ML_KEM_768"])
def test_a_data_key_pair_opens_again(client: Client, key: str, spec: str) -> None:
    made = client.data_keys.generate_pair(key, spec, {"a": "b"})
    hidden = client.data_keys.generate_pair_without_plaintext(key, spec)

    assert client.decrypt(made.private_key_ciphertext, {"a": "b"}).plaintext == made.private_key
    assert spki(load_der_private_key(made.private_key, None)) == made.public_key
    assert hidden.private_key == b""
    private = load_der_private_key(client.decrypt(hidden.private_key_ciphertext).plaintext, None)
    assert spki(private) == hidden.public_key


@pytest.mark.parametrize("spec", ["AES_256", "X_WING", "HMAC_256"])
def test_a_pair_of_no_asymmetric_spec_is_refused(client: Client, key: str, spec: str) -> None:
    error = refusal(lambda: client.data_keys.generate_pair(key, spec))
    assert (error.reason, error.field) == ("FIELD_INVALID", "spec")


def test_a_batch_of_data_keys(client: Client, key: str) -> None:
    made = client.data_keys.generate_batch(key, 10, {"a": "b"}, byte_count=48).results()
    hidden = client.data_keys.generate_batch(key, 2, without_plaintext=True).results()

    assert len({one.plaintext for one in made}) == 10
    assert all(client.decrypt(one.ciphertext, {"a": "b"}).plaintext == one.plaintext for one in made)
    assert [one.plaintext for one in hidden] == [b"", b""]
    fields = [refusal(partial(client.data_keys.generate_batch, key, count)).field for count in (0, 1001)]
    assert fields == ["count", "count"]


def _point(der: bytes) -> bytes:
    """The uncompressed point, which ends a SubjectPublicKeyInfo of a NIST curve."""
    size = {91: 65, 120: 97, 158: 133}[len(der)]
    return der[-size:]
