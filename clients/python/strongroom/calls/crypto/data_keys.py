"""Data keys beyond the everyday ones: many at once, exported to a public key, and key pairs."""

from __future__ import annotations

from dataclasses import dataclass, field

from strongroom.calls.base import Part
from strongroom.calls.crypto.batches import Batch, batch
from strongroom.calls.crypto.results import Context, DataKey, Encrypted, encrypted
from strongroom.calls.crypto.signatures import algorithm_number, algorithm_text
from strongroom.convert import enum_number
from strongroom.crypto.v1 import crypto_pb2 as pb
from strongroom.crypto.v1.crypto_pb2_grpc import CryptoServiceStub
from strongroom.keystore.v1 import key_pb2


@dataclass(frozen=True, slots=True)
class ExportedDataKey:
    """A data key that was encrypted to a public key, in the layout of docs/formats.md.

    `public_key_fingerprint` is the SHA-256 of the public key's DER. Where the data key was made by the call,
    `ciphertext` is that data key under the key; it is empty otherwise.
    """

    exported_key: bytes
    key_version: str
    public_key_fingerprint: bytes
    algorithm: str
    event_id: str
    ciphertext: bytes = b""


@dataclass(frozen=True, slots=True)
class DataKeyPair:
    """A fresh key pair.

    `private_key` is PKCS#8 in DER, empty where it was not asked for, and not in the `repr`; `private_key_ciphertext`
    is what `decrypt` opens; `public_key` is SubjectPublicKeyInfo in DER.
    """

    private_key: bytes = field(repr=False)
    private_key_ciphertext: bytes
    public_key: bytes
    key: str
    key_version: str
    event_id: str


class DataKeys(Part[CryptoServiceStub]):
    """Makes and exports data keys. `key` is an id, `alias/{alias}`, or a full name.

    `context` is the encryption context that the encrypted data key is bound to.
    """

    def generate_without_plaintext(
        self, key: str, context: Context = None, *, byte_count: int = 32, timeout: float | None = None
    ) -> Encrypted:
        """Makes a random data key of 16 to 1,024 bytes and answers it encrypted alone.

        It is for whoever stores a data key without using it.
        """
        request = pb.GenerateDataKeyWithoutPlaintextRequest(
            key=self._names.key(key), number_of_bytes=byte_count, encryption_context=context or {}
        )
        answer = self._service.call(self._service.stub.GenerateDataKeyWithoutPlaintext, request, timeout)
        return encrypted(answer.response, answer.event_id)

    def generate_batch(
        self,
        key: str,
        count: int,
        context: Context = None,
        *,
        byte_count: int = 32,
        without_plaintext: bool = False,
        timeout: float | None = None,
    ) -> Batch[DataKey]:
        """Makes 1 to 1,000 data keys of 16 to 1,024 bytes under one key and context."""
        request = pb.BatchGenerateDataKeyRequest(
            key=self._names.key(key),
            count=count,
            number_of_bytes=byte_count,
            encryption_context=context or {},
            without_plaintext=without_plaintext,
        )
        answer = self._service.call(self._service.stub.BatchGenerateDataKey, request, timeout)
        response, event_id = answer.response, answer.event_id

        def result(outcome: pb.DataKeyOutcome) -> DataKey:
            made = outcome.data_key
            return DataKey(made.plaintext, made.ciphertext, response.key, response.key_version, event_id)

        return batch(response.outcomes, event_id, result)

    def export(
        self,
        ciphertext: bytes,
        public_key: bytes,
        context: Context = None,
        *,
        algorithm: str = "",
        timeout: float | None = None,
    ) -> ExportedDataKey:
        """Encrypts a data key anew, to an RSA, EC or ML-KEM public key in PEM or DER.

        `ciphertext` and `context` are those of the encrypted data key. Raises PUBLIC_KEY_INVALID, CIPHERTEXT_INVALID.
        """
        request = pb.ExportDataKeyRequest(
            ciphertext=ciphertext,
            encryption_context=context or {},
            target=pb.ExportTarget(public_key=public_key, algorithm=algorithm_number(algorithm)),
        )
        answer = self._service.call(self._service.stub.ExportDataKey, request, timeout)
        return _exported(answer.response, answer.event_id)

    def generate_and_export(
        self,
        key: str,
        public_key: bytes,
        context: Context = None,
        *,
        byte_count: int = 32,
        algorithm: str = "",
        timeout: float | None = None,
    ) -> ExportedDataKey:
        """Makes a data key and answers it encrypted under `key` and to a public key, never in the clear.

        `public_key` is an RSA, EC or ML-KEM key in PEM or DER. Raises PUBLIC_KEY_INVALID.
        """
        request = pb.GenerateAndExportDataKeyRequest(
            key=self._names.key(key),
            number_of_bytes=byte_count,
            encryption_context=context or {},
            target=pb.ExportTarget(public_key=public_key, algorithm=algorithm_number(algorithm)),
        )
        answer = self._service.call(self._service.stub.GenerateAndExportDataKey, request, timeout)
        return _exported(answer.response, answer.event_id, answer.response.ciphertext)

    def generate_pair(
        self, key: str, spec: str, context: Context = None, *, timeout: float | None = None
    ) -> DataKeyPair:
        """Makes a key pair of an asymmetric spec (`EC_P256`), its private key in the clear and encrypted."""
        request = pb.GenerateDataKeyPairRequest(
            key=self._names.key(key), spec=_spec(spec), encryption_context=context or {}
        )
        answer = self._service.call(self._service.stub.GenerateDataKeyPair, request, timeout)
        return _pair(answer.response, answer.event_id, answer.response.private_key)

    def generate_pair_without_plaintext(
        self, key: str, spec: str, context: Context = None, *, timeout: float | None = None
    ) -> DataKeyPair:
        """Makes a key pair of an asymmetric spec (`EC_P256`), its private key encrypted alone."""
        request = pb.GenerateDataKeyPairWithoutPlaintextRequest(
            key=self._names.key(key), spec=_spec(spec), encryption_context=context or {}
        )
        answer = self._service.call(self._service.stub.GenerateDataKeyPairWithoutPlaintext, request, timeout)
        return _pair(answer.response, answer.event_id)


def _pair(
    response: pb.GenerateDataKeyPairResponse | pb.GenerateDataKeyPairWithoutPlaintextResponse,
    event_id: str,
    private_key: bytes = b"",
) -> DataKeyPair:
    return DataKeyPair(
        private_key,
        response.private_key_ciphertext,
        response.public_key,
        response.key,
        response.key_version,
        event_id,
    )


def _exported(
    response: pb.ExportDataKeyResponse | pb.GenerateAndExportDataKeyResponse, event_id: str, ciphertext: bytes = b""
) -> ExportedDataKey:
    return ExportedDataKey(
        response.exported_key,
        response.key_version,
        response.public_key_fingerprint,
        algorithm_text(response.algorithm),
        event_id,
        ciphertext,
    )


def _spec(name: str) -> key_pb2.KeySpec.ValueType:
    return enum_number(key_pb2.KeySpec, "KEY_SPEC_", name, "spec")
