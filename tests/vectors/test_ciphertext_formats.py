"""Contexts, ciphertexts and exports: the vectors, the services and a reader written from docs/formats.md agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key

from services.crypto.blobs import Binding
from services.crypto.keys import material
from services.crypto.keys.key_records import Key, KeyRecords
from services.crypto.keys.key_uses import KeyUse, KeyUses
from services.crypto.keys.message_limit import MessageLimit
from services.crypto.operations import exports
from services.crypto.operations.encryption import Encryption, Encryptor
from services.crypto.primitives import ciphertexts, private_keys, public_key_encryption
from services.crypto.primitives.ciphers import Cipher
from services.crypto.primitives.public_key_encryption import Decrypter, decrypter
from services.crypto.provider import Provider
from services.crypto.providers import local
from services.crypto.providers.local import LocalProvider
from services.crypto.providers.pkcs11 import provider as pkcs11
from services.runtime import encryption_context
from services.runtime.access.authorization import Authorizer
from services.runtime.access.decisions import NO_POLICIES
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError
from strongroom.audit.v1.event_pb2 import Event
from strongroom.crypto.v1.algorithm_pb2 import Algorithm
from strongroom.crypto.v1.crypto_pb2 import ExportTarget
from strongroom.keystore.v1 import key_pb2 as k
from strongroom.keystore.v1.key_record_service_pb2 import KeyRecord, VersionRecord
from tests.support.tokens import provider_in, softhsm_pool
from tests.support.vectors import documented
from tests.support.vectors.own import vectors

Vector = Mapping[str, Any]
NAME = "accounts/acme/keys/payments"


@pytest.fixture(scope="module")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Provider]]:
    """Where keys of either protection level are."""
    root_key = tmp_path_factory.mktemp("local") / "root.key"
    local.initialize(root_key)
    with softhsm_pool(tmp_path_factory.mktemp("token")) as pool:
        pkcs11.initialize(pool)
        yield {"SOFTWARE": LocalProvider(root_key), "HSM": provider_in(pool)}


class OneKey:
    """A keystore that has the key of a vector and no other, and permits everything."""

    def __init__(self, vector: Vector, provider: Provider) -> None:
        binding = Binding(
            "acme",
            NAME,
            bytes.fromhex(vector["key_uid"]),
            vector["key_version"],
            k.KeySpec.Value(f"KEY_SPEC_{vector['spec']}"),
            k.KEY_USAGE_ENCRYPT_DECRYPT,
            k.ProtectionLevel.Value(f"PROTECTION_LEVEL_{vector['protection_level']}"),
        )
        made = material.take_in(provider, binding, bytes.fromhex(vector["key"]))
        version = VersionRecord(version=binding.version, state=k.KEY_VERSION_STATE_ENABLED, wrapped_material=made.blob)
        record = KeyRecord(
            uid=binding.key_uid,
            name=NAME,
            account="acme",
            spec=binding.spec,
            usage=binding.usage,
            protection_level=binding.protection_level,
            state=k.KEY_STATE_ENABLED,
            primary_version=binding.version,
            versions=[version],
        )
        self._key = Key(record, NO_POLICIES, provider, cast("MessageLimit", self))

    def encrypt(self, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """What Encrypt answers."""
        use = KeyUse(self._key, 0, Cipher, Event(action="crypto:Encrypt"))
        return Encryptor(use, encryption_context.of(context)).encrypt(plaintext)

    def decrypt(self, ciphertext: bytes, context: Mapping[str, str]) -> bytes:
        """What Decrypt answers."""
        encryption = Encryption(KeyUses(cast("KeyRecords", self), cast("Authorizer", self)))
        parsed, call = ciphertexts.parse(ciphertext), Call("CryptoService", "Decrypt", "crypto:Decrypt")
        return encryption.decryptor(call, call.action, parsed, encryption_context.of(context)).decrypt(parsed)

    def by_uid(self, uid: bytes) -> Key:
        """The key of the vector, by whatever uid."""
        if uid != self._key.uid:
            raise StrongroomError(Reason.KEY_NOT_FOUND, "no such key")
        return self._key

    def authorize(self, *_: object, **__: object) -> Event:
        """Permits everything."""
        return Event()

    def admit(self, *_: object) -> None:
        """Admits everybody."""

    def spend(self, *_: object) -> None:
        """Nothing is counted."""


def decrypter_of(spec: str, private_key: bytes) -> Decrypter:
    """The service's own decrypter with a private key as blobs hold it."""
    key = private_keys.load(k.KeySpec.Value(f"KEY_SPEC_{spec}"), private_key)
    return decrypter(key, key.public_key())


@pytest.mark.parametrize("vector", vectors("encryption_context", "valid"))
def test_a_context_has_its_canonical_bytes(vector: Vector) -> None:
    canonical = bytes.fromhex(vector["canonical"])
    assert documented.canonical_context(vector["encryption_context"]) == canonical
    assert encryption_context.canonical(vector["encryption_context"]) == canonical
    assert encryption_context.canonical(dict(reversed(vector["encryption_context"].items()))) == canonical


@pytest.mark.parametrize("vector", vectors("encryption_context", "refused"))
def test_what_is_no_context_is_refused(vector: Vector) -> None:
    with pytest.raises(documented.RefusedError):
        documented.canonical_context(vector["encryption_context"])
    with pytest.raises(StrongroomError) as refused:
        encryption_context.canonical(vector["encryption_context"])
    assert refused.value.reason == vector["refused_with"]


@pytest.mark.parametrize("vector", vectors("ciphertexts", "valid"))
def test_a_ciphertext_decrypts_and_nothing_near_it(vector: Vector, providers: Mapping[str, Provider]) -> None:
    plaintext = bytes.fromhex(vector["plaintext"])
    made = documented.seal_ciphertext(vector, bytes.fromhex(vector["nonce"]), plaintext)
    assert made.hex() == vector["ciphertext"]
    assert documented.open_ciphertext(vector) == plaintext

    keystore, context = OneKey(vector, providers[vector["protection_level"]]), vector["encryption_context"]
    assert keystore.decrypt(made, context) == plaintext
    # And what the service makes, the reader of the text opens.
    assert documented.open_ciphertext({**vector, "ciphertext": keystore.encrypt(plaintext, context).hex()}) == plaintext
    for at in range(len(made)):
        altered = made[:at] + bytes([made[at] ^ 1]) + made[at + 1 :]
        with pytest.raises(documented.RefusedError):
            documented.open_ciphertext({**vector, "ciphertext": altered.hex()})
        with pytest.raises(StrongroomError) as refused:
            keystore.decrypt(altered, context)
        assert refused.value.reason is Reason.CIPHERTEXT_INVALID


@pytest.mark.parametrize("vector", vectors("ciphertexts", "refused"))
def test_what_is_no_ciphertext_of_the_key_is_refused(vector: Vector, providers: Mapping[str, Provider]) -> None:
    with pytest.raises(documented.RefusedError):
        documented.open_ciphertext(vector)
    keystore = OneKey(vector, providers[vector["protection_level"]])
    with pytest.raises(StrongroomError) as refused:
        keystore.decrypt(bytes.fromhex(vector["ciphertext"]), vector["encryption_context"])
    assert refused.value.reason == vector["refused_with"]


@pytest.mark.parametrize("vector", vectors("asymmetric_ciphertexts", "valid"))
def test_an_asymmetric_ciphertext_decrypts(vector: Vector) -> None:
    plaintext = bytes.fromhex(vector["plaintext"])
    assert documented.open_asymmetric(vector) == plaintext
    assert asymmetrically_decrypted(vector) == plaintext
    key = decrypter_of(vector["spec"], bytes.fromhex(vector["private_key"])).public_key
    bound = public_key_encryption.info(key, encryption_context.of(vector["encryption_context"]))
    algorithm = Algorithm.Value(f"ALGORITHM_{vector['algorithm']}")
    fresh = public_key_encryption.encrypt(key, algorithm, plaintext, bound)
    assert documented.open_asymmetric({**vector, "ciphertext": fresh.hex()}) == plaintext


@pytest.mark.parametrize("vector", vectors("asymmetric_ciphertexts", "refused"))
def test_what_was_not_encrypted_to_the_public_key_is_refused(vector: Vector) -> None:
    with pytest.raises(documented.RefusedError):
        documented.open_asymmetric(vector)
    with pytest.raises(StrongroomError) as refused:
        asymmetrically_decrypted(vector)
    assert refused.value.reason == vector["refused_with"]


def asymmetrically_decrypted(vector: Vector) -> bytes:
    """What AsymmetricDecrypt answers to the ciphertext of a vector."""
    opened = decrypter_of(vector["spec"], bytes.fromhex(vector["private_key"]))
    bound = public_key_encryption.info(opened.public_key, encryption_context.of(vector["encryption_context"]))
    algorithm = Algorithm.Value(f"ALGORITHM_{vector['algorithm']}")
    return opened.decrypt(algorithm, bytes.fromhex(vector["ciphertext"]), bound)


@pytest.mark.parametrize("vector", vectors("exported_data_keys", "valid"))
def test_an_exported_data_key_opens(vector: Vector) -> None:
    data_key = bytes.fromhex(vector["data_key"])
    assert documented.open_export(vector) == data_key
    private_key = load_der_private_key(bytes.fromhex(vector["private_key"]), None)
    spki = private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    target = exports.read_target(ExportTarget(public_key=spki))
    assert Algorithm.Name(target.algorithm) == f"ALGORITHM_{vector['algorithm']}"
    fresh = target.encrypt(data_key, "ciphertext")
    assert documented.open_export({**vector, "exported_key": fresh.hex()}) == data_key


@pytest.mark.parametrize("vector", vectors("exported_data_keys", "refused"))
def test_what_is_no_export_is_refused(vector: Vector) -> None:
    # The services export and do not open: the reader alone can refuse.
    with pytest.raises(documented.RefusedError):
        documented.open_export(vector)
