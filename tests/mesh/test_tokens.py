"""A whole mesh on each PKCS#11 module: keys are made, used, imported and wrapped anew in its token."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from strongroom import Client
from tests.conftest import SQLITE_LOCAL, PrivateMeshes
from tests.support import tokens
from tests.support.clients import client_of, reason_of, refusal, until

# What docs/keys.md says that a token of the module lacks.
LACKS = {
    tokens.SOFTHSM: (("RSA_2048", "ENCRYPT_DECRYPT"), ("ED25519", "SIGN_VERIFY")),
    tokens.KRYOPTIC: (("EC_SECP256K1", "SIGN_VERIFY"), ("ED25519", "SIGN_VERIFY")),
}


@pytest.mark.parametrize("module", tokens.MODULES)
def test_keys_are_made_used_imported_and_wrapped_anew(private_mesh: PrivateMeshes, tmp_path: Path, module: str) -> None:
    token = tokens.open_token(module, tmp_path)
    mesh = private_mesh(
        SQLITE_LOCAL,
        settings={
            "crypto": {"provider": {**token.settings, "root_key_file": None}},
            "keystore": {"root_settle_seconds": 10.0},
        },
        environment={"crypto": token.environment},
    )
    with client_of(mesh, timeout=40) as client:
        for name, spec, usage in (
            ("aes", "AES_256", ""),
            ("rsa", "RSA_2048", "SIGN_VERIFY"),
            ("ec", "EC_P256", "SIGN_VERIFY"),
            ("mac", "HMAC_256", ""),
        ):
            client.keys.create(name, spec=spec, usage=usage, protection_level="HSM")
        for spec, usage in LACKS[module]:
            error = refusal(lambda: client.keys.create(spec=spec, usage=usage, protection_level="HSM"))  # noqa: B023
            assert error.reason == "UNSUPPORTED_IN_HSM"
        imported_aes(client)
        private = imported_ec(client)
        sealed = {name: client.encrypt(name, b"before").ciphertext for name in ("aes", "own-aes")}
        mac = client.generate_mac("mac", b"message").mac
        signatures = {name: client.sign(name, b"message").signature for name in ("rsa", "ec", "own-ec")}

        client.mesh.root_key.rotate()
        until(lambda: rotated(client), 60)

        assert client.keys.versions.get("aes/versions/1").root_version == 2
        assert client.keys.versions.get("own-ec/versions/1").root_version == 2
        assert all(client.decrypt(one).plaintext == b"before" for one in sealed.values())
        assert client.generate_mac("mac", b"message").mac == mac
        assert all(client.verify(name, one, b"message").valid for name, one in signatures.items())
        private.public_key().verify(client.sign("own-ec", b"after").signature, b"after", ec.ECDSA(SHA256()))
        altered = sealed["aes"][:-1] + bytes([sealed["aes"][-1] ^ 1])
        assert refusal(lambda: client.decrypt(altered)).reason == "CIPHERTEXT_INVALID"


def imported_aes(client: Client) -> None:
    client.keys.create("own-aes", protection_level="HSM", origin="EXTERNAL")
    client.keys.material.wrap_and_import("own-aes", os.urandom(32))
    until(lambda: reason_of(lambda: client.encrypt("own-aes", b"x")) == "")


def imported_ec(client: Client) -> ec.EllipticCurvePrivateKey:
    private = ec.generate_private_key(ec.SECP256R1())
    client.keys.create("own-ec", spec="EC_P256", usage="SIGN_VERIFY", protection_level="HSM", origin="EXTERNAL")
    client.keys.material.wrap_and_import(
        "own-ec", private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    )
    until(lambda: reason_of(lambda: client.sign("own-ec", b"x")) == "")
    private.public_key().verify(client.sign("own-ec", b"x").signature, b"x", ec.ECDSA(SHA256()))
    return private


def rotated(client: Client) -> bool:
    rotation = client.mesh.root_key.get_status().rotation
    assert rotation is not None
    assert rotation.state in ("RUNNING", "DONE")
    return rotation.state == "DONE"
