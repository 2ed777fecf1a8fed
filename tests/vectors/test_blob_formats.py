"""Wrapped blobs and fingerprints: the vectors, crypto and a reader written from docs/formats.md agree."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key
from pkcs11 import Attribute, KeyType, ObjectClass

from services.crypto import blobs
from services.crypto.blobs import Binding, WrappingKeyBinding
from services.crypto.keys import material
from services.crypto.keys.imports import Imports
from services.crypto.keys.material import Opened
from services.crypto.primitives.ciphers import Cipher
from services.crypto.primitives.macs import MacKey
from services.crypto.primitives.signatures import Input, Signer
from services.crypto.provider import Provider
from services.crypto.providers import local
from services.crypto.providers.local import LocalProvider
from services.crypto.providers.pkcs11.provider import Pkcs11Provider
from services.crypto.providers.pkcs11.root import GUARDED
from services.crypto.providers.pkcs11.sessions import SessionPool
from services.runtime.errors import StrongroomError
from strongroom.crypto.v1.algorithm_pb2 import ALGORITHM_ECDSA_SHA_256
from strongroom.keystore.v1 import key_pb2 as k
from strongroom.wrapping import wrap_for_import
from tests.support.clocks import StillClock
from tests.support.tokens import provider_in, softhsm_pool
from tests.support.vectors import documented
from tests.support.vectors.own import vectors

Vector = Mapping[str, Any]
Root = Mapping[str, Any]
METHOD, METHOD_NAME = k.IMPORT_METHOD_RSA_AES_KEY_WRAP_3072_SHA256, "RSA_AES_KEY_WRAP_3072_SHA256"


class Token:
    """SoftHSM2 with the root of the vectors, which no token of a mesh would let anybody choose."""

    def __init__(self, pool: SessionPool) -> None:
        self._pool = pool
        self._root: Root = {}

    def provider(self, root: Root) -> Pkcs11Provider:
        """The provider that has this root version and no other."""
        if self._root != root:
            with self._pool.writing() as session:
                for label, key, purposes in (
                    # In the order in which crypto makes them: a root key without the other is a broken token.
                    ("seal", "sealing_key", (Attribute.ENCRYPT, Attribute.DECRYPT)),
                    ("root", "wrapping_key", (Attribute.WRAP, Attribute.UNWRAP)),
                ):
                    session.create_object(
                        {
                            Attribute.CLASS: ObjectClass.SECRET_KEY,
                            Attribute.KEY_TYPE: KeyType.AES,
                            Attribute.LABEL: f"strongroom-{label}-{root['version']}",
                            Attribute.VALUE: bytes.fromhex(root[key]),
                            Attribute.TOKEN: True,
                            **dict.fromkeys(purposes, True),
                            **GUARDED,
                        }
                    )
            self._root = root
        return provider_in(self._pool)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    with softhsm_pool(tmp_path_factory.mktemp("token")) as pool:
        yield Token(pool)


Providers = Callable[[Vector], Provider]


@pytest.fixture
def provider_of(tmp_path: Path, token: Token) -> Providers:
    """The provider that holds a vector's root version: the token, or a file as the text describes it."""

    def made(vector: Vector) -> Provider:
        root = vector["root"]
        if "wrapping_key" in root:
            return token.provider(root)
        name = "root.key" if root["version"] == 1 else f"root.key.{root['version']}"
        (tmp_path / name).write_bytes(bytes.fromhex(root["sealing_key"]))
        (tmp_path / name).chmod(0o600)
        return LocalProvider(tmp_path / "root.key")

    return made


def key_version(vector: Vector) -> Binding:
    """The service's own binding of a key version."""
    return Binding(
        vector["account"],
        vector["key_name"],
        bytes.fromhex(vector["key_uid"]),
        vector["version"],
        vector["spec"],
        vector["usage"],
        vector["protection_level"],
    )


def binding_bytes(vector: Vector) -> bytes:
    """What the service binds a blob to."""
    if vector["of"] == documented.SERVICE_KEY:
        return blobs.service_binding(vector["service"], vector["purpose"])
    if vector["of"] == documented.KEY_VERSION:
        return key_version(vector).encode()
    version, method = key_version(vector["key_version"]), vector["import_method"]
    wrapping_key = WrappingKeyBinding(
        version, method, vector["expire_time_us"], vector["spec"], vector["protection_level"]
    )
    return wrapping_key.encode()


def opened_in_token(provider: Provider, vector: Vector) -> Opened:
    """The key of an HSM blob, used once."""
    binding, public_key = key_version(vector["binding"]), b""
    if binding.spec == k.KEY_SPEC_EC_P256:
        private_key = load_der_private_key(bytes.fromhex(vector["material"]), None)
        public_key = private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    opened = material.open_blob(provider, binding, bytes.fromhex(vector["blob"]), public_key)
    if isinstance(opened, Signer):
        opened.prove((ALGORITHM_ECDSA_SHA_256,))
    else:
        assert isinstance(opened, Cipher | MacKey)
        opened.prove()
    return opened


@pytest.mark.parametrize("vector", vectors("wrapped_blobs", "valid"))
def test_a_blob_opens(vector: Vector, provider_of: Providers) -> None:
    given = bytes.fromhex(vector["material"])
    assert documented.binding(vector["binding"]).hex() == vector["binding_bytes"]
    assert documented.seal_blob(vector, bytes.fromhex(vector["nonce"]), given).hex() == vector["blob"]
    assert documented.open_blob(vector) == given

    bound = binding_bytes(vector["binding"])
    assert bound.hex() == vector["binding_bytes"]
    provider = provider_of(vector)
    payload = blobs.unseal(provider, vector["kind"], bytes.fromhex(vector["blob"]), bound)
    if vector["kind"] == blobs.HSM:
        check_material(opened_in_token(provider, vector), given)
    else:
        assert payload == given
        # And what crypto seals, the reader of the text opens.
        sealed = blobs.seal(provider, vector["kind"], given, bound)
        assert documented.open_blob({**vector, "blob": sealed.hex()}) == given
    if vector["kind"] == blobs.SOFTWARE and vector["binding"]["of"] == documented.KEY_VERSION:
        binding = key_version(vector["binding"])
        assert material.normalized(binding, given) == given
        material.open_blob(provider, binding, bytes.fromhex(vector["blob"]))


def check_material(opened: Opened, given: bytes) -> None:
    """Whether a key of the token is the one whose material this is."""
    if isinstance(opened, Cipher):
        sealed = opened.encrypt(b"plaintext", b"bound")
        assert AESGCM(given).decrypt(sealed[:12], sealed[12:], b"bound") == b"plaintext"
    elif isinstance(opened, MacKey):
        assert opened.compute(b"message") == hmac.digest(given, b"message", "sha384")
    else:
        assert isinstance(opened, Signer)
        private_key = load_der_private_key(given, None)
        assert isinstance(private_key, ec.EllipticCurvePrivateKey)
        signature = opened.sign(ALGORITHM_ECDSA_SHA_256, Input(b"message"))
        private_key.public_key().verify(signature, b"message", ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize("vector", vectors("wrapped_blobs", "refused"))
def test_a_blob_of_something_else_is_refused(vector: Vector, provider_of: Providers) -> None:
    with pytest.raises(documented.RefusedError):
        documented.open_blob(vector)
    provider, blob = provider_of(vector), bytes.fromhex(vector["blob"])

    def open_it() -> None:
        blobs.unseal(provider, vector["kind"], blob, binding_bytes(vector["binding"]))
        # A seal that holds leaves what it holds: no wrapped key.
        opened_in_token(provider, vector)

    with pytest.raises(StrongroomError) as refused:
        open_it()
    assert refused.value.reason == vector["refused_with"]


@pytest.fixture(scope="module")
def imports(tmp_path_factory: pytest.TempPathFactory) -> Imports:
    root_key = tmp_path_factory.mktemp("local") / "root.key"
    local.initialize(root_key)
    return Imports(LocalProvider(root_key), StillClock())


def imported(imports: Imports, vector: Vector) -> bytes:
    """The fingerprint that an import of the vector's material answers, for a version that has the vector's."""
    version = key_version(vector["binding"])
    opening = imports.begin(version, METHOD, 1)
    wrapped = wrap_for_import(bytes.fromhex(vector["material"]), opening.public_key, METHOD_NAME)
    return imports.finish(version, opening, wrapped, bytes.fromhex(vector["fingerprint"])).fingerprint


@pytest.mark.parametrize("vector", vectors("import_fingerprints", "valid"))
def test_a_fingerprint_recognises_its_material(vector: Vector, imports: Imports) -> None:
    assert documented.binding(vector["binding"]).hex() == vector["binding_bytes"]
    assert documented.fingerprint(vector).hex() == vector["fingerprint"]
    assert imported(imports, vector).hex() == vector["fingerprint"]
    # And what crypto makes anew, the reader of the text makes again.
    fresh = imported(imports, {**vector, "fingerprint": ""}).hex()
    assert documented.fingerprint({**vector, "fingerprint": fresh}).hex() == fresh


@pytest.mark.parametrize("vector", vectors("import_fingerprints", "refused"))
def test_a_fingerprint_recognises_nothing_else(vector: Vector, imports: Imports) -> None:
    assert documented.fingerprint(vector).hex() != vector["fingerprint"]
    with pytest.raises(StrongroomError) as refused:
        imported(imports, vector)
    assert refused.value.reason == vector["refused_with"]
