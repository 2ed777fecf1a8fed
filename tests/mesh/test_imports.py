"""Bring your own key over a real mesh: every kind of material comes in, works, goes, and comes back the same."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, mlkem, rsa, x25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from deploy.dev.mesh import Mesh
from strongroom import Client, StrongroomError
from strongroom.wrapping import wrap_for_import
from tests.support.clients import reason_of, refusal, until

PRIVATE_KEYS: dict[str, tuple[Callable[[], Any], str]] = {
    "RSA_2048": (lambda: rsa.generate_private_key(65537, 2048), "SIGN_VERIFY"),
    "EC_P256": (lambda: ec.generate_private_key(ec.SECP256R1()), "SIGN_VERIFY"),
    "EC_P521": (lambda: ec.generate_private_key(ec.SECP521R1()), "SIGN_VERIFY"),
    "EC_SECP256K1": (lambda: ec.generate_private_key(ec.SECP256K1()), "SIGN_VERIFY"),
    "ED25519": (ed25519.Ed25519PrivateKey.generate, "SIGN_VERIFY"),
    "ML_DSA_65": (mldsa.MLDSA65PrivateKey.generate, "SIGN_VERIFY"),
    "ML_KEM_768": (mlkem.MLKEM768PrivateKey.generate, "ENCRYPT_DECRYPT"),
    "X25519": (x25519.X25519PrivateKey.generate, "KEY_AGREEMENT"),
}


def pem(private: Any) -> bytes:
    encoded: bytes = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return encoded


@pytest.fixture
def external(client: Client, name: str) -> str:
    """A key of origin EXTERNAL without material."""
    return client.keys.create(name, origin="EXTERNAL").name


def test_a_key_waits_for_material_and_works_once_it_has_some(client: Client, external: str) -> None:
    key = client.keys.get(external)
    assert (key.state, key.origin, key.primary_version) == ("PENDING_IMPORT", "EXTERNAL", 1)
    assert refusal(lambda: client.encrypt(external, b"x")).reason == "KEY_STATE_INVALID"

    version = client.keys.material.wrap_and_import(external, os.urandom(32))

    assert (version.name, version.state, version.primary) == (f"{external}/versions/1", "ENABLED", True)
    assert version.import_time is not None
    assert client.keys.get(external).state == "ENABLED"
    until(lambda: reason_of(lambda: client.encrypt(external, b"x")) == "", 1.5)
    assert client.decrypt(client.encrypt(external, b"x").ciphertext).plaintext == b"x"


@pytest.mark.parametrize("spec", PRIVATE_KEYS)
def test_a_private_key_of_every_kind_is_imported(client: Client, name: str, spec: str) -> None:
    make, usage = PRIVATE_KEYS[spec]
    private = make()
    key = client.keys.create(name, spec=spec, usage=usage, origin="EXTERNAL").name

    client.keys.material.wrap_and_import(key, pem(private))

    until(lambda: reason_of(lambda: client.asymmetric.get_public_key(key)) == "", 1.5)
    own = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert client.asymmetric.get_public_key(key).der == own
    if spec == "EC_P256":
        private.public_key().verify(client.sign(key, b"message").signature, b"message", ec.ECDSA(SHA256()))


@pytest.mark.parametrize(("spec", "size"), [("HMAC_256", 32), ("HMAC_512", 64), ("AES_128", 16), ("SM4", 16)])
@pytest.mark.parametrize("method", ["RSA_OAEP_3072_SHA256", "RSA_AES_KEY_WRAP_3072_SHA256"])
def test_secret_keys_come_by_either_method(client: Client, name: str, spec: str, size: int, method: str) -> None:
    key = client.keys.create(name, spec=spec, origin="EXTERNAL").name
    assert client.keys.material.wrap_and_import(key, bytes(range(size)), method=method).state == "ENABLED"
    assert refusal(lambda: client.keys.material.wrap_and_import(key, bytes(size))).reason == "IMPORT_MATERIAL_MISMATCH"


def test_an_x_wing_seed_is_imported(client: Client, name: str) -> None:
    key = client.keys.create(name, spec="X_WING", usage="ENCRYPT_DECRYPT", origin="EXTERNAL").name
    client.keys.material.wrap_and_import(key, bytes(32), method="RSA_OAEP_4096_SHA256")
    until(lambda: reason_of(lambda: client.asymmetric.get_public_key(key)) == "", 1.5)


def test_deleted_material_comes_back_the_same_or_not_at_all(client: Client, external: str) -> None:
    material = os.urandom(32)
    client.keys.material.wrap_and_import(external, material)
    until(lambda: reason_of(lambda: client.encrypt(external, b"x")) == "", 1.5)
    sealed = client.encrypt(external, b"kept").ciphertext

    deleted = client.keys.material.delete(external)

    assert (deleted.state, deleted.root_version) == ("PENDING_IMPORT", 0)
    assert client.keys.get(external).state == "PENDING_IMPORT"
    until(lambda: reason_of(lambda: client.decrypt(sealed)) == "KEY_STATE_INVALID", 1.5)
    assert refusal(lambda: client.keys.material.delete(external)).reason == "KEY_STATE_INVALID"
    assert (
        refusal(lambda: client.keys.material.wrap_and_import(external, os.urandom(32))).reason
        == "IMPORT_MATERIAL_MISMATCH"
    )
    client.keys.material.wrap_and_import(external, material)
    until(lambda: reason_of(lambda: client.decrypt(sealed)) == "", 1.5)
    assert client.decrypt(sealed).plaintext == b"kept"


def test_expired_material_is_refused_at_once_and_gone_soon(client: Client, external: str) -> None:
    expires = datetime.now(UTC) + timedelta(seconds=6)
    version = client.keys.material.wrap_and_import(external, os.urandom(32), expire_time=expires)
    assert version.expire_time == client.keys.get(external).expire_time == expires
    until(lambda: reason_of(lambda: client.encrypt(external, b"x")) == "", 1.5)
    until(lambda: reason_of(lambda: client.encrypt(external, b"x")) == "KEY_STATE_INVALID", 10.0)
    assert datetime.now(UTC) >= expires


def test_a_new_version_waits_and_becomes_primary_when_chosen(client: Client, external: str) -> None:
    first, second = os.urandom(32), os.urandom(32)
    client.keys.material.wrap_and_import(external, first)
    until(lambda: reason_of(lambda: client.encrypt(external, b"x")) == "", 1.5)
    sealed = client.encrypt(external, b"old").ciphertext

    added = client.keys.rotate(external)

    assert (added.name, added.state, added.primary) == (f"{external}/versions/2", "PENDING_IMPORT", False)
    assert refusal(lambda: client.keys.rotate(external)).reason == "KEY_STATE_INVALID"
    assert refusal(lambda: client.keys.versions.set_primary(added.name)).reason == "KEY_STATE_INVALID"
    assert client.keys.material.get_import_parameters(external).version == added.name
    assert client.keys.material.wrap_and_import(external, second).name == added.name
    assert client.keys.versions.set_primary(added.name).primary_version == 2
    until(lambda: client.encrypt(external, b"x").key_version == added.name, 1.5)
    assert client.decrypt(sealed).plaintext == b"old"


def test_a_key_of_this_service_takes_no_material(client: Client, key: str) -> None:
    assert refusal(lambda: client.keys.material.get_import_parameters(key)).reason == "KEY_STATE_INVALID"
    assert refusal(lambda: client.keys.material.delete(key)).reason == "KEY_STATE_INVALID"


def test_an_external_key_has_no_rotation_policy(client: Client, external: str) -> None:
    assert refusal(lambda: client.keys.update_rotation_policy(external, timedelta(days=7))).field == "rotation_policy"


def test_a_deletion_cancelled_before_the_import_waits_for_material(client: Client, external: str) -> None:
    assert client.keys.schedule_deletion(external, timedelta(days=7)).state == "PENDING_DELETION"
    assert refusal(lambda: client.keys.material.wrap_and_import(external, bytes(32))).reason == "KEY_STATE_INVALID"
    assert client.keys.cancel_deletion(external).state == "PENDING_IMPORT"


def test_material_that_does_not_fit_is_refused_without_saying_why(client: Client, name: str, external: str) -> None:
    parameters = client.keys.material.get_import_parameters(external)

    def refused(wrapped: bytes) -> StrongroomError:
        return refusal(lambda: client.keys.material.import_wrapped(external, parameters.token, wrapped))

    def wrap(material: bytes) -> bytes:
        return wrap_for_import(material, parameters.public_key, parameters.method)

    errors = [
        refused(wrap(bytes(31))),
        refused(wrap(bytes(33))),
        refused(wrap(bytes(32))[:-1]),
        refused(bytes(552)),
        refused(b"x"),
        refused(wrap_for_import(bytes(32), parameters.public_key, "RSA_OAEP_4096_SHA256")),
    ]
    assert {(error.reason, error.message) for error in errors} == {(errors[0].reason, errors[0].message)}
    assert errors[0].reason == "IMPORT_MATERIAL_INVALID"
    other = client.keys.create(f"{name}-ec", spec="EC_P256", usage="SIGN_VERIFY", origin="EXTERNAL").name
    for private in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        pkcs8 = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        assert reason_of(partial(client.keys.material.wrap_and_import, other, pkcs8)) == "IMPORT_MATERIAL_INVALID"


def test_a_token_opens_what_it_was_made_for_alone(client: Client, name: str, external: str) -> None:
    other = client.keys.create(f"{name}-other", origin="EXTERNAL").name
    parameters = client.keys.material.get_import_parameters(external)
    wrapped = wrap_for_import(bytes(32), parameters.public_key, parameters.method)

    def reason(key: str, token: bytes) -> str:
        return refusal(lambda: client.keys.material.import_wrapped(key, token, wrapped)).reason

    assert reason(other, parameters.token) == "IMPORT_TOKEN_INVALID"
    assert reason(external, parameters.token[:-1]) == "IMPORT_TOKEN_INVALID"
    assert reason(external, b"\xff" * 64) == "IMPORT_TOKEN_INVALID"
    middle = len(parameters.token) // 2
    flipped = parameters.token[:middle] + bytes([parameters.token[middle] ^ 1]) + parameters.token[middle + 1 :]
    assert reason(external, flipped) in ("IMPORT_TOKEN_INVALID", "IMPORT_MATERIAL_INVALID")
    assert refusal(lambda: client.keys.material.import_wrapped(external, b"", wrapped)).field == "import_token"
    assert (
        refusal(lambda: client.keys.material.import_wrapped(external, parameters.token, b"")).field
        == "encrypted_material"
    )
    too_long = bytes(16_385)
    assert (
        reason_of(lambda: client.keys.material.import_wrapped(external, parameters.token, too_long))
        == "FIELD_TOO_LARGE"
    )
    assert client.keys.material.import_wrapped(external, parameters.token, wrapped).state == "ENABLED"


def test_rsa_alone_carries_no_private_key(client: Client, name: str) -> None:
    key = client.keys.create(name, spec="ED25519", usage="SIGN_VERIFY", origin="EXTERNAL").name
    refused = refusal(lambda: client.keys.material.get_import_parameters(key, "RSA_OAEP_4096_SHA256"))
    assert (refused.reason, refused.field) == ("FIELD_INVALID", "import_method")


@pytest.mark.parametrize("age", [timedelta(seconds=-1), timedelta(days=3661)])
def test_material_expires_in_the_next_ten_years(client: Client, external: str, age: timedelta) -> None:
    expires = datetime.now(UTC) + age
    refused = refusal(lambda: client.keys.material.wrap_and_import(external, bytes(32), expire_time=expires))
    assert (refused.reason, refused.field) == ("FIELD_INVALID", "material_expire_time")


@pytest.mark.parametrize(
    ("spec", "usage", "material"),
    [
        ("AES_256", "ENCRYPT_DECRYPT", bytes(range(32))),
        ("HMAC_256", "GENERATE_VERIFY_MAC", bytes(range(32))),
        ("RSA_2048", "SIGN_VERIFY", None),
        ("EC_P256", "SIGN_VERIFY", None),
    ],
)
def test_material_is_imported_into_the_token(
    client: Client, mesh: Mesh, name: str, spec: str, usage: str, material: bytes | None
) -> None:
    if material is None:
        material = pem(PRIVATE_KEYS[spec][0]())
    key = client.keys.create(name, spec=spec, usage=usage, protection_level="HSM", origin="EXTERNAL").name
    if mesh.provider == "local":
        assert refusal(lambda: client.keys.material.wrap_and_import(key, material)).reason == "UNSUPPORTED_IN_HSM"
        return
    assert client.keys.material.wrap_and_import(key, material).state == "ENABLED"
    assert client.keys.material.wrap_and_import(key, material).state == "ENABLED"
    until(lambda: client.keys.get(key).state == "ENABLED", 1.5)
    if usage == "SIGN_VERIFY":
        until(lambda: reason_of(lambda: client.sign(key, b"message")) == "", 1.5)
        assert client.verify(key, client.sign(key, b"message").signature, b"message")
    elif usage == "ENCRYPT_DECRYPT":
        until(lambda: reason_of(lambda: client.encrypt(key, b"x")) == "", 1.5)
        assert client.decrypt(client.encrypt(key, b"x").ciphertext).plaintext == b"x"
    else:
        until(lambda: reason_of(lambda: client.generate_mac(key, b"x")) == "", 1.5)
        expected = hmac.digest(material, b"x", "sha256")
        assert client.generate_mac(key, b"x").mac == expected


def test_a_token_that_cannot_hold_the_spec_is_told_before_anything_is_wrapped(client: Client, name: str) -> None:
    key = client.keys.create(name, spec="ML_DSA_65", protection_level="HSM", origin="EXTERNAL").name
    assert refusal(lambda: client.keys.material.get_import_parameters(key)).reason == "UNSUPPORTED_IN_HSM"
