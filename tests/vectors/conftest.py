"""The client of the mesh tests, and keys with the material of published vectors."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest

from deploy.dev.mesh import Mesh
from strongroom import Client
from tests.mesh.conftest import client

__all__ = ["client"]

METHOD = "RSA_AES_KEY_WRAP_3072_SHA256"
# What SoftHSM2 can keep: docs/keys.md. Its RSA encryption lacks SHA-256.
IN_TOKEN = {
    ("AES_256", "ENCRYPT_DECRYPT"),
    ("AES_128", "ENCRYPT_DECRYPT"),
    *((f"HMAC_{bits}", "GENERATE_VERIFY_MAC") for bits in (256, 384, 512)),
    *((f"RSA_{bits}", "SIGN_VERIFY") for bits in (2048, 3072, 4096)),
    *((f"EC_{curve}", "SIGN_VERIFY") for curve in ("P256", "P384", "P521", "SECP256K1")),
    *((f"EC_{curve}", "KEY_AGREEMENT") for curve in ("P256", "P384", "P521")),
}

ImportKey = Callable[..., str]


@pytest.fixture
def import_key(client: Client, mesh: Mesh) -> ImportKey:
    """Imports material through gRPC and answers the key's full name. Where the mesh has a token that can keep the key,
    the key is in the token: so every vector runs in software on one mesh, and where it can in the token on the other.

    `import_key(spec, usage, material)`; with `level` the key is of that protection level on both.
    """

    def import_key(spec: str, usage: str, material: bytes, *, level: str = "") -> str:
        in_token = mesh.provider == "pkcs11" and (spec, usage) in IN_TOKEN
        key = client.keys.create(
            f"vector-{secrets.token_hex(6)}",
            spec=spec,
            usage=usage,
            protection_level=level or ("HSM" if in_token else "SOFTWARE"),
            origin="EXTERNAL",
        )
        assert client.keys.material.wrap_and_import(key.name, material, method=METHOD).state == "ENABLED"
        return key.name

    return import_key
