"""Everything that CryptoService refuses, operation by operation: the reason, and the field that is at fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.protobuf.message import Message

from deploy.dev.mesh import Mesh
from strongroom import Client
from strongroom.calls.crypto.batches import item_error
from strongroom.crypto.v1 import algorithm_pb2 as a
from strongroom.crypto.v1 import crypto_pb2 as pb
from strongroom.crypto.v1.crypto_pb2_grpc import CryptoServiceStub
from strongroom.errors import from_rpc_error
from strongroom.keystore.v1 import key_pb2 as k
from tests.support.clients import client_of, reason_of, refusal, until

KIND_SPECS = {
    "cipher": ("AES_256", "ENCRYPT_DECRYPT"),
    "mac": ("HMAC_256", "GENERATE_VERIFY_MAC"),
    "signer": ("EC_P256", "SIGN_VERIFY"),
    "decrypter": ("X_WING", "ENCRYPT_DECRYPT"),
    "agreement": ("EC_P256", "KEY_AGREEMENT"),
    "kem": ("ML_KEM_768", "KEY_ENCAPSULATION"),
}
STATES = {
    "disabled": "KEY_DISABLED",
    "pending-deletion": "KEY_STATE_INVALID",
    "pending-import": "KEY_STATE_INVALID",
}
UNKNOWN_ALGORITHM: Any = 9_999
LARGEST = 65_536


def spki(key: Any) -> bytes:
    encoded: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


P256 = spki(ec.generate_private_key(ec.SECP256R1()))
P384 = spki(ec.generate_private_key(ec.SECP384R1()))
RSA = spki(rsa.generate_private_key(65537, 2048))


@dataclass(frozen=True)
class World:
    """A caller of crypto, keys of every kind in every state, and a ciphertext of each cipher key that ever had one."""

    stub: CryptoServiceStub
    ciphertexts: dict[str, bytes]
    data_key: bytes

    @staticmethod
    def key(kind: str, state: str = "enabled") -> str:
        return f"accounts/default/keys/refusals-{kind}-{state}"

    def call(self, method: str, request: Message) -> Message:
        try:
            answer: Message = getattr(self.stub, method)(request, timeout=10)
        except grpc.RpcError as error:
            raise from_rpc_error(error, "crypto") from None
        return answer


@pytest.fixture(scope="module")
def world(mesh: Mesh) -> Iterator[World]:
    with client_of(mesh) as client, mesh.channel("crypto") as channel:
        for kind, (spec, usage) in KIND_SPECS.items():
            for state in ("enabled", "disabled", "pending-deletion"):
                client.keys.create(World.key(kind, state).rpartition("/")[2], spec=spec, usage=usage)
            pending = World.key(kind, "pending-import").rpartition("/")[2]
            client.keys.create(pending, spec=spec, usage=usage, origin="EXTERNAL")
        client.keys.material.wrap_and_import(World.key("cipher", "pending-import"), bytes(32))
        enabled = World.key("cipher", "pending-import")
        until(lambda: not reason_of(lambda: client.encrypt(enabled, b"x")))
        ciphertexts = {
            state: client.encrypt(World.key("cipher", state), b"x").ciphertext for state in ("enabled", *STATES)
        }
        client.keys.material.delete(enabled)
        for kind in KIND_SPECS:
            client.keys.disable(World.key(kind, "disabled"))
            client.keys.schedule_deletion(World.key(kind, "pending-deletion"))
        # Changes arrive in their order: with the last one, all are known.
        last = World.key(list(KIND_SPECS)[-1], "pending-deletion")
        until(lambda: reason_of(lambda: client.asymmetric.get_public_key(last)) == "KEY_STATE_INVALID")
        data_key = client.generate_data_key(World.key("cipher"), byte_count=191).ciphertext
        yield World(CryptoServiceStub(channel), ciphertexts, data_key)


@dataclass(frozen=True)
class Operation:
    """A method that names a key: a request that is right but for the key, and the kind of key that it takes."""

    method: str
    kind: str
    request: Callable[[str], Message]
    field: str = "key"
    versioned: bool = True
    """Whether it takes one version of a key."""

    @property
    def wrong_kind(self) -> str:
        return "mac" if self.kind != "mac" else "cipher"


def _re_encrypt(key: str) -> Message:
    # Crypto looks at the source first: any whole ciphertext to the decrypter does.
    return pb.ReEncryptRequest(
        ciphertext=b"x", source_key=key, source_algorithm=a.ALGORITHM_HPKE_X_WING, destination_key=World.key("cipher")
    )


_TARGET = pb.ExportTarget(public_key=P256)
OPERATIONS = [
    Operation("Encrypt", "cipher", lambda key: pb.EncryptRequest(key=key, plaintext=b"x"), versioned=False),
    Operation("GenerateDataKey", "cipher", lambda key: pb.GenerateDataKeyRequest(key=key), versioned=False),
    Operation(
        "GenerateDataKeyWithoutPlaintext",
        "cipher",
        lambda key: pb.GenerateDataKeyWithoutPlaintextRequest(key=key),
        versioned=False,
    ),
    Operation(
        "GenerateAndExportDataKey",
        "cipher",
        lambda key: pb.GenerateAndExportDataKeyRequest(key=key, target=_TARGET),
        versioned=False,
    ),
    Operation(
        "GenerateDataKeyPair",
        "cipher",
        lambda key: pb.GenerateDataKeyPairRequest(key=key, spec=k.KEY_SPEC_EC_P256),
        versioned=False,
    ),
    Operation(
        "GenerateDataKeyPairWithoutPlaintext",
        "cipher",
        lambda key: pb.GenerateDataKeyPairWithoutPlaintextRequest(key=key, spec=k.KEY_SPEC_EC_P256),
        versioned=False,
    ),
    Operation(
        "BatchEncrypt",
        "cipher",
        lambda key: pb.BatchEncryptRequest(key=key, items=[pb.EncryptItem(plaintext=b"x")]),
        versioned=False,
    ),
    Operation(
        "BatchGenerateDataKey",
        "cipher",
        lambda key: pb.BatchGenerateDataKeyRequest(key=key, count=1),
        versioned=False,
    ),
    Operation("ReEncrypt", "decrypter", _re_encrypt, "source_key"),
    Operation("AsymmetricEncrypt", "decrypter", lambda key: pb.AsymmetricEncryptRequest(key=key, plaintext=b"x")),
    Operation("AsymmetricDecrypt", "decrypter", lambda key: pb.AsymmetricDecryptRequest(key=key, ciphertext=b"x")),
    Operation("Sign", "signer", lambda key: pb.SignRequest(key=key, message=b"m")),
    Operation("Verify", "signer", lambda key: pb.VerifyRequest(key=key, message=b"m", signature=b"s")),
    Operation("BatchSign", "signer", lambda key: pb.BatchSignRequest(key=key, items=[pb.SignItem(message=b"m")])),
    Operation("GetPublicKey", "signer", lambda key: pb.GetPublicKeyRequest(name=key), "name"),
    Operation("GenerateMac", "mac", lambda key: pb.GenerateMacRequest(key=key, message=b"m"), versioned=False),
    Operation("VerifyMac", "mac", lambda key: pb.VerifyMacRequest(key=key, message=b"m", mac=bytes(32))),
    Operation(
        "DeriveSharedSecret",
        "agreement",
        lambda key: pb.DeriveSharedSecretRequest(key=key, peer_public_key=P256),
    ),
    Operation("Encapsulate", "kem", lambda key: pb.EncapsulateRequest(key=key)),
    Operation("Decapsulate", "kem", lambda key: pb.DecapsulateRequest(key=key, ciphertext=bytes(1088))),
]
# These name their key inside the ciphertext, and GenerateRandom names none.
CARRIED: dict[str, Callable[[bytes], Message]] = {
    "Decrypt": lambda ciphertext: pb.DecryptRequest(ciphertext=ciphertext),
    "ReEncrypt": lambda ciphertext: pb.ReEncryptRequest(ciphertext=ciphertext, destination_key=World.key("cipher")),
    "ExportDataKey": lambda ciphertext: pb.ExportDataKeyRequest(ciphertext=ciphertext, target=_TARGET),
    "BatchDecrypt": lambda ciphertext: pb.BatchDecryptRequest(items=[pb.DecryptItem(ciphertext=ciphertext)]),
}

by_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.method)


def told(world: World, operation: Operation, key: str) -> tuple[str, str]:
    error = refusal(lambda: world.call(operation.method, operation.request(key)))
    return error.reason, error.field


def test_every_operation_is_here() -> None:
    tried = {operation.method for operation in OPERATIONS} | set(CARRIED) | {"GenerateRandom"}
    assert tried == {method.name for method in pb.DESCRIPTOR.services_by_name["CryptoService"].methods}


@by_operation
def test_a_key_has_to_be_named(world: World, operation: Operation) -> None:
    assert told(world, operation, "") == ("FIELD_REQUIRED", operation.field)
    for malformed in ("refusals", "accounts/default/secrets/x", "accounts/default/keys/Capital", "//"):
        assert told(world, operation, malformed) == ("NAME_MALFORMED", operation.field)


@by_operation
def test_a_key_has_to_be_there(world: World, operation: Operation) -> None:
    assert told(world, operation, "accounts/default/keys/refusals-absent")[0] == "KEY_NOT_FOUND"
    assert told(world, operation, "accounts/default/aliases/refusals-absent")[0] == "ALIAS_NOT_FOUND"
    assert told(world, operation, "accounts/other/keys/refusals-absent")[0] == "PERMISSION_DENIED"


@by_operation
def test_a_version_has_to_be_there_or_not_be_named(world: World, operation: Operation) -> None:
    reason, field = told(world, operation, f"{World.key(operation.kind)}/versions/7")
    if operation.versioned:
        assert reason == "KEY_VERSION_NOT_FOUND"
    else:
        assert (reason, field) == ("NAME_MALFORMED", operation.field)


@by_operation
def test_a_key_of_another_usage_is_refused(world: World, operation: Operation) -> None:
    assert told(world, operation, World.key(operation.wrong_kind))[0] == "KEY_USAGE_INVALID"


@by_operation
@pytest.mark.parametrize("state", STATES)
def test_a_key_that_may_not_be_used_is_refused(world: World, operation: Operation, state: str) -> None:
    assert told(world, operation, World.key(operation.kind, state))[0] == STATES[state]


@pytest.mark.parametrize("method", CARRIED)
@pytest.mark.parametrize("state", STATES)
def test_a_ciphertext_of_a_key_that_may_not_be_used_is_refused(world: World, method: str, state: str) -> None:
    request = CARRIED[method](world.ciphertexts[state])
    assert refusal(lambda: world.call(method, request)).reason == STATES[state]


@pytest.mark.parametrize("method", [method for method in CARRIED if method != "BatchDecrypt"])
def test_what_is_no_ciphertext_is_refused(world: World, method: str) -> None:
    error = refusal(lambda: world.call(method, CARRIED[method](b"")))
    assert (error.reason, error.field) == ("FIELD_REQUIRED", "ciphertext")
    for broken in (b"x", bytes(100), world.ciphertexts["enabled"][:-1], bytes(70_000)):
        assert refusal(lambda given=broken: world.call(method, CARRIED[method](given))).reason == "CIPHERTEXT_INVALID"  # type: ignore[misc]


def _signing(**given: Any) -> Message:
    return pb.SignRequest(key=World.key("signer"), **given)


def _verifying(**given: Any) -> Message:
    return pb.VerifyRequest(**{"key": World.key("signer"), "signature": b"s", **given})


def _encrypting_to(**given: Any) -> Message:
    return pb.AsymmetricEncryptRequest(**{"key": World.key("decrypter"), "plaintext": b"x", **given})


def _mac(**given: Any) -> Message:
    return pb.VerifyMacRequest(**{"key": World.key("mac"), "message": b"m", "mac": b"m", **given})


def _exporting(public_key: bytes, algorithm: a.Algorithm.ValueType = a.ALGORITHM_UNSPECIFIED) -> Message:
    target = pb.ExportTarget(public_key=public_key, algorithm=algorithm)
    return pb.GenerateAndExportDataKeyRequest(key=World.key("cipher"), target=target)


def _sized(message: type[Any], size: int, **given: Any) -> Message:
    request: Message = message(key=World.key("cipher"), number_of_bytes=size, **given)
    return request


def _pair(message: type[Any], spec: int) -> Message:
    request: Message = message(key=World.key("cipher"), spec=spec)
    return request


_CONTEXT: dict[str, Callable[[dict[str, str]], Message]] = {
    "Encrypt": lambda given: pb.EncryptRequest(key=World.key("cipher"), plaintext=b"x", encryption_context=given),
    "GenerateDataKey": lambda given: pb.GenerateDataKeyRequest(key=World.key("cipher"), encryption_context=given),
    "GenerateDataKeyWithoutPlaintext": lambda given: pb.GenerateDataKeyWithoutPlaintextRequest(
        key=World.key("cipher"), encryption_context=given
    ),
    "GenerateAndExportDataKey": lambda given: pb.GenerateAndExportDataKeyRequest(
        key=World.key("cipher"), target=_TARGET, encryption_context=given
    ),
    "GenerateDataKeyPair": lambda given: pb.GenerateDataKeyPairRequest(
        key=World.key("cipher"), spec=k.KEY_SPEC_EC_P256, encryption_context=given
    ),
    "GenerateDataKeyPairWithoutPlaintext": lambda given: pb.GenerateDataKeyPairWithoutPlaintextRequest(
        key=World.key("cipher"), spec=k.KEY_SPEC_EC_P256, encryption_context=given
    ),
    "BatchGenerateDataKey": lambda given: pb.BatchGenerateDataKeyRequest(
        key=World.key("cipher"), count=1, encryption_context=given
    ),
    "AsymmetricEncrypt": lambda given: _encrypting_to(encryption_context=given),
    "AsymmetricDecrypt": lambda given: pb.AsymmetricDecryptRequest(
        key=World.key("decrypter"), ciphertext=b"x", encryption_context=given
    ),
}


@pytest.mark.parametrize("method", _CONTEXT)
@pytest.mark.parametrize(
    ("context", "reason"),
    [({"": "b"}, "FIELD_INVALID"), ({"a": "b" * 8_186}, "FIELD_TOO_LARGE")],
    ids=["empty", "8193"],
)
def test_a_context_has_limits(world: World, method: str, context: dict[str, str], reason: str) -> None:
    error = refusal(lambda: world.call(method, _CONTEXT[method](context)))
    assert (error.reason, error.field) == (reason, "encryption_context")


@pytest.mark.parametrize("method", [method for method in _CONTEXT if method != "AsymmetricDecrypt"])
def test_the_largest_context_is_taken(world: World, method: str) -> None:
    assert world.call(method, _CONTEXT[method]({"a": "b" * 8_185}))


FIELDS: dict[str, tuple[str, Callable[[], Message], str, str]] = {
    # --- sizes: 0, and one more than the limit
    "empty plaintext": ("Encrypt", lambda: pb.EncryptRequest(key=World.key("cipher")), "FIELD_REQUIRED", "plaintext"),
    "long plaintext": (
        "Encrypt",
        lambda: pb.EncryptRequest(key=World.key("cipher"), plaintext=bytes(LARGEST + 1)),
        "FIELD_TOO_LARGE",
        "plaintext",
    ),
    "empty plaintext to a public key": (
        "AsymmetricEncrypt",
        lambda: _encrypting_to(plaintext=b""),
        "FIELD_REQUIRED",
        "plaintext",
    ),
    "long plaintext to a public key": (
        "AsymmetricEncrypt",
        lambda: _encrypting_to(plaintext=bytes(LARGEST + 1)),
        "FIELD_TOO_LARGE",
        "plaintext",
    ),
    "empty ciphertext to a public key": (
        "AsymmetricDecrypt",
        lambda: pb.AsymmetricDecryptRequest(key=World.key("decrypter")),
        "FIELD_REQUIRED",
        "ciphertext",
    ),
    "nothing to sign": ("Sign", _signing, "FIELD_REQUIRED", "message"),
    "long message to sign": ("Sign", lambda: _signing(message=bytes(LARGEST + 1)), "FIELD_TOO_LARGE", "message"),
    "nothing to verify": ("Verify", _verifying, "FIELD_REQUIRED", "message"),
    "long message to verify": ("Verify", lambda: _verifying(message=bytes(LARGEST + 1)), "FIELD_TOO_LARGE", "message"),
    "empty signature": ("Verify", lambda: _verifying(message=b"m", signature=b""), "FIELD_REQUIRED", "signature"),
    "long signature": (
        "Verify",
        lambda: _verifying(message=b"m", signature=bytes(LARGEST + 1)),
        "FIELD_TOO_LARGE",
        "signature",
    ),
    "empty message for a MAC": (
        "GenerateMac",
        lambda: pb.GenerateMacRequest(key=World.key("mac")),
        "FIELD_REQUIRED",
        "message",
    ),
    "long message for a MAC": (
        "GenerateMac",
        lambda: pb.GenerateMacRequest(key=World.key("mac"), message=bytes(LARGEST + 1)),
        "FIELD_TOO_LARGE",
        "message",
    ),
    "empty message of a MAC": ("VerifyMac", lambda: _mac(message=b""), "FIELD_REQUIRED", "message"),
    "long message of a MAC": ("VerifyMac", lambda: _mac(message=bytes(LARGEST + 1)), "FIELD_TOO_LARGE", "message"),
    "empty MAC": ("VerifyMac", lambda: _mac(mac=b""), "FIELD_REQUIRED", "mac"),
    "nothing to decapsulate": (
        "Decapsulate",
        lambda: pb.DecapsulateRequest(key=World.key("kem")),
        "FIELD_REQUIRED",
        "ciphertext",
    ),
    **{
        f"{message.DESCRIPTOR.name} of {size} bytes": (
            message.DESCRIPTOR.name.removesuffix("Request"),
            lambda message=message, size=size, given=given: _sized(message, size, **given),  # type: ignore[misc]
            "FIELD_INVALID",
            "number_of_bytes",
        )
        for message, given in (
            (pb.GenerateDataKeyRequest, {}),
            (pb.GenerateDataKeyWithoutPlaintextRequest, {}),
            (pb.GenerateAndExportDataKeyRequest, {"target": _TARGET}),
            (pb.BatchGenerateDataKeyRequest, {"count": 1}),
        )
        for size in (1, 15, 1_025)
    },
    "a data key of 191 bytes to RSA": (
        "GenerateAndExportDataKey",
        lambda: _sized(pb.GenerateAndExportDataKeyRequest, 191, target=pb.ExportTarget(public_key=RSA)),
        "FIELD_INVALID",
        "number_of_bytes",
    ),
    "1,025 random bytes": (
        "GenerateRandom",
        lambda: pb.GenerateRandomRequest(number_of_bytes=1_025),
        "FIELD_INVALID",
        "number_of_bytes",
    ),
    "no data keys": (
        "BatchGenerateDataKey",
        lambda: pb.BatchGenerateDataKeyRequest(key=World.key("cipher")),
        "FIELD_INVALID",
        "count",
    ),
    "1,001 data keys": (
        "BatchGenerateDataKey",
        lambda: pb.BatchGenerateDataKeyRequest(key=World.key("cipher"), count=1_001),
        "FIELD_INVALID",
        "count",
    ),
    **{
        f"{count} items of {method}": (
            method,
            lambda make=make, count=count: make(count),  # type: ignore[misc]
            reason,
            "items",
        )
        for method, make in (
            (
                "BatchEncrypt",
                lambda count: pb.BatchEncryptRequest(
                    key=World.key("cipher"), items=[pb.EncryptItem(plaintext=b"x")] * count
                ),
            ),
            (
                "BatchDecrypt",
                lambda count: pb.BatchDecryptRequest(items=[pb.DecryptItem(ciphertext=b"x")] * count),
            ),
            (
                "BatchSign",
                lambda count: pb.BatchSignRequest(key=World.key("signer"), items=[pb.SignItem(message=b"x")] * count),
            ),
        )
        for count, reason in ((0, "FIELD_REQUIRED"), (1_001, "FIELD_TOO_LARGE"))
    },
    "plaintexts of more than 4 MiB": (
        "BatchEncrypt",
        lambda: pb.BatchEncryptRequest(
            key=World.key("cipher"),
            items=[*([pb.EncryptItem(plaintext=bytes(LARGEST))] * 64), pb.EncryptItem(plaintext=b"x")],
        ),
        "FIELD_TOO_LARGE",
        "items",
    ),
    "ciphertexts of more than 4 MiB": (
        "BatchDecrypt",
        lambda: pb.BatchDecryptRequest(items=[pb.DecryptItem(ciphertext=bytes(LARGEST))] * 65),
        "FIELD_TOO_LARGE",
        "items",
    ),
    "messages of more than 4 MiB": (
        "BatchSign",
        lambda: pb.BatchSignRequest(
            key=World.key("signer"), items=[*([pb.SignItem(message=bytes(LARGEST))] * 64), pb.SignItem(digest=b"x")]
        ),
        "FIELD_TOO_LARGE",
        "items",
    ),
    # --- digests, algorithms, specs
    "a digest of 31 bytes": ("Sign", lambda: _signing(digest=bytes(31)), "FIELD_INVALID", "digest"),
    "a digest of 33 bytes": ("Sign", lambda: _signing(digest=bytes(33)), "FIELD_INVALID", "digest"),
    "a digest of 0 bytes": ("Verify", lambda: _verifying(digest=b""), "FIELD_INVALID", "digest"),
    **{
        f"{method} with {name}": (
            method,
            lambda make=make, algorithm=algorithm: make(algorithm),  # type: ignore[misc]
            "ALGORITHM_INVALID",
            field,
        )
        for name, algorithm in (("another algorithm", a.ALGORITHM_HMAC_SHA_256), ("no algorithm", UNKNOWN_ALGORITHM))
        for method, field, make in (
            ("Sign", "algorithm", lambda algorithm: _signing(message=b"m", algorithm=algorithm)),
            ("Verify", "algorithm", lambda algorithm: _verifying(message=b"m", algorithm=algorithm)),
            ("AsymmetricEncrypt", "algorithm", lambda algorithm: _encrypting_to(algorithm=algorithm)),
            (
                "AsymmetricDecrypt",
                "algorithm",
                lambda algorithm: pb.AsymmetricDecryptRequest(
                    key=World.key("decrypter"), ciphertext=b"x", algorithm=algorithm
                ),
            ),
            (
                "BatchSign",
                "algorithm",
                lambda algorithm: pb.BatchSignRequest(
                    key=World.key("signer"), items=[pb.SignItem(message=b"m")], algorithm=algorithm
                ),
            ),
            (
                "ReEncrypt",
                "source_algorithm",
                lambda algorithm: pb.ReEncryptRequest(
                    ciphertext=b"x",
                    source_key=World.key("decrypter"),
                    source_algorithm=algorithm,
                    destination_key=World.key("cipher"),
                ),
            ),
            ("GenerateAndExportDataKey", "target.algorithm", lambda algorithm: _exporting(P256, algorithm)),
        )
    },
    **{
        f"{message.DESCRIPTOR.name} of spec {spec}": (
            message.DESCRIPTOR.name.removesuffix("Request"),
            lambda message=message, spec=spec: _pair(message, spec),  # type: ignore[misc]
            "FIELD_INVALID",
            "spec",
        )
        for message in (pb.GenerateDataKeyPairRequest, pb.GenerateDataKeyPairWithoutPlaintextRequest)
        for spec in (k.KEY_SPEC_UNSPECIFIED, k.KEY_SPEC_AES_256, k.KEY_SPEC_X_WING, 9_999)
    },
    # --- public keys
    "no peer": (
        "DeriveSharedSecret",
        lambda: pb.DeriveSharedSecretRequest(key=World.key("agreement")),
        "FIELD_REQUIRED",
        "peer_public_key",
    ),
    **{
        f"a peer that is {what}": (
            "DeriveSharedSecret",
            lambda peer=peer: pb.DeriveSharedSecretRequest(key=World.key("agreement"), peer_public_key=peer),  # type: ignore[misc]
            "PUBLIC_KEY_INVALID",
            "peer_public_key",
        )
        for what, peer in (
            ("no key", b"x"),
            ("cut off", P256[:-1]),
            ("not on its curve", P256[:-1] + bytes([P256[-1] ^ 1])),
            ("on another curve", P384),
            ("an RSA key", RSA),
        )
    },
    "a peer of 8 KiB and one byte": (
        "DeriveSharedSecret",
        lambda: pb.DeriveSharedSecretRequest(key=World.key("agreement"), peer_public_key=bytes(8_193)),
        "FIELD_TOO_LARGE",
        "peer_public_key",
    ),
    "no target": ("GenerateAndExportDataKey", lambda: _exporting(b""), "FIELD_REQUIRED", "target.public_key"),
    "a target that is no key": (
        "GenerateAndExportDataKey",
        lambda: _exporting(b"x"),
        "PUBLIC_KEY_INVALID",
        "target.public_key",
    ),
    "a target of 8 KiB and one byte": (
        "GenerateAndExportDataKey",
        lambda: _exporting(bytes(8_193)),
        "FIELD_TOO_LARGE",
        "target.public_key",
    ),
    # --- the destination of a re-encryption
    "no destination": (
        "ReEncrypt",
        lambda: pb.ReEncryptRequest(ciphertext=b"%enabled%"),
        "FIELD_REQUIRED",
        "destination_key",
    ),
    "a destination that is malformed": (
        "ReEncrypt",
        lambda: pb.ReEncryptRequest(ciphertext=b"%enabled%", destination_key="x"),
        "NAME_MALFORMED",
        "destination_key",
    ),
    "a destination that is absent": (
        "ReEncrypt",
        lambda: pb.ReEncryptRequest(ciphertext=b"%enabled%", destination_key="accounts/default/keys/refusals-absent"),
        "KEY_NOT_FOUND",
        "destination_key",
    ),
    "a destination of another usage": (
        "ReEncrypt",
        lambda: pb.ReEncryptRequest(ciphertext=b"%enabled%", destination_key=World.key("mac")),
        "KEY_USAGE_INVALID",
        "destination_key",
    ),
    "a destination's context that is too large": (
        "ReEncrypt",
        lambda: pb.ReEncryptRequest(
            ciphertext=b"%enabled%",
            destination_key=World.key("cipher"),
            destination_encryption_context={"a": "b" * 8_186},
        ),
        "FIELD_TOO_LARGE",
        "destination_encryption_context",
    ),
    "a source's context that is too large": (
        "ReEncrypt",
        lambda: pb.ReEncryptRequest(
            ciphertext=b"%enabled%",
            destination_key=World.key("cipher"),
            source_encryption_context={"a": "b" * 8_186},
        ),
        "FIELD_TOO_LARGE",
        "source_encryption_context",
    ),
    "another key than the ciphertext's": (
        "Decrypt",
        lambda: pb.DecryptRequest(ciphertext=b"%enabled%", key=World.key("mac")),
        "KEY_MISMATCH",
        "key",
    ),
    "a malformed key beside the ciphertext": (
        "Decrypt",
        lambda: pb.DecryptRequest(ciphertext=b"%enabled%", key="x"),
        "NAME_MALFORMED",
        "key",
    ),
    "a data key that is too long for its target": (
        "ExportDataKey",
        lambda: pb.ExportDataKeyRequest(ciphertext=b"%191%", target=pb.ExportTarget(public_key=RSA)),
        "FIELD_TOO_LARGE",
        "ciphertext",
    ),
    "an export without a target": (
        "ExportDataKey",
        lambda: pb.ExportDataKeyRequest(ciphertext=b"%enabled%"),
        "FIELD_REQUIRED",
        "target.public_key",
    ),
}


@pytest.mark.parametrize("case", FIELDS)
def test_a_field_that_is_wrong_is_named(world: World, case: str) -> None:
    method, make, reason, field = FIELDS[case]
    request: Any = make()
    stored = {b"%enabled%": world.ciphertexts["enabled"], b"%191%": world.data_key}
    if getattr(request, "ciphertext", b"") in stored:
        request.ciphertext = stored[request.ciphertext]
    error = refusal(lambda: world.call(method, request))
    assert (error.reason, error.field) == (reason, field)


def test_the_largest_batch_is_taken(world: World) -> None:
    items = [pb.EncryptItem(plaintext=bytes(LARGEST))] * 64
    answer: Any = world.call("BatchEncrypt", pb.BatchEncryptRequest(key=World.key("cipher"), items=items))
    opened: Any = world.call(
        "BatchDecrypt",
        pb.BatchDecryptRequest(items=[pb.DecryptItem(ciphertext=one.ciphertext) for one in answer.outcomes[:63]]),
    )
    assert [outcome.decrypted.plaintext for outcome in opened.outcomes] == [bytes(LARGEST)] * 63


def test_a_decapsulation_of_the_wrong_length_is_refused(world: World) -> None:
    for size in (1, 1_087, 1_089):
        request = pb.DecapsulateRequest(key=World.key("kem"), ciphertext=bytes(size))
        assert refusal(lambda given=request: world.call("Decapsulate", given)).reason == "CIPHERTEXT_INVALID"  # type: ignore[misc]


def test_items_of_batches_are_refused_one_by_one(world: World) -> None:
    signed: Any = world.call(
        "BatchSign",
        pb.BatchSignRequest(
            key=World.key("signer"),
            items=[
                pb.SignItem(),
                pb.SignItem(message=bytes(LARGEST + 1)),
                pb.SignItem(digest=bytes(31)),
                pb.SignItem(message=b"m"),
            ],
        ),
    )
    reasons = [item_error(one.error, "").reason if one.HasField("error") else "" for one in signed.outcomes]
    assert reasons == ["FIELD_REQUIRED", "FIELD_TOO_LARGE", "FIELD_INVALID", ""]
    items = [
        pb.DecryptItem(),
        pb.DecryptItem(ciphertext=b"x"),
        pb.DecryptItem(ciphertext=world.ciphertexts["disabled"]),
        pb.DecryptItem(ciphertext=world.ciphertexts["pending-import"]),
        pb.DecryptItem(ciphertext=world.ciphertexts["enabled"], encryption_context={"": "b"}),
        pb.DecryptItem(ciphertext=world.ciphertexts["enabled"], encryption_context={"a": "b"}),
        pb.DecryptItem(ciphertext=world.ciphertexts["enabled"]),
    ]
    opened: Any = world.call("BatchDecrypt", pb.BatchDecryptRequest(items=items))
    reasons = [one.error.reason if one.HasField("error") else "" for one in opened.outcomes]
    assert reasons == [
        "FIELD_REQUIRED",
        "CIPHERTEXT_INVALID",
        "KEY_DISABLED",
        "KEY_STATE_INVALID",
        "FIELD_INVALID",
        "CIPHERTEXT_INVALID",
        "",
    ]


def test_a_version_that_may_not_be_used_is_refused(client: Client, name: str) -> None:
    key = client.keys.create(name).name
    sealed = client.encrypt(key, b"x").ciphertext
    signing = client.keys.create(f"{name}-2", spec="EC_P256", usage="SIGN_VERIFY").name
    for one in (key, signing):
        client.keys.rotate(one)
        client.keys.versions.disable(f"{one}/versions/1")
    first = f"{signing}/versions/1"
    uses: list[Callable[[], object]] = [
        lambda: client.decrypt(sealed),
        lambda: client.re_encrypt(sealed, key),
        lambda: client.data_keys.export(sealed, P256),
        lambda: client.batch_decrypt([sealed]),
        lambda: client.sign(first, b"m"),
        lambda: client.verify(first, b"s", b"m"),
        lambda: client.batch_sign(first, [b"m"]),
        lambda: client.asymmetric.get_public_key(first),
    ]
    until(lambda: [reason_of(use) for use in uses] == ["KEY_DISABLED"] * len(uses))
    for one in (key, signing):
        client.keys.versions.destroy(f"{one}/versions/1")
    until(lambda: [reason_of(use) for use in uses] == ["KEY_STATE_INVALID"] * len(uses))
