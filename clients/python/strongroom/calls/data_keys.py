"""Data keys beyond the everyday ones: many at once, exported to a public key, and key pairs."""

from __future__ import annotations

from dataclasses import dataclass, field

from strongroom.calls.cryptography import Batch, Context, CryptographyCalls, DataKey, item_error
from strongroom.calls.signatures import algorithm_number, algorithm_text
from strongroom.convert import enum_number
from strongroom.crypto.v1 import crypto_pb2 as pb
from strongroom.keystore.v1 import key_pb2


@dataclass(frozen=True, slots=True)
class ExportedDataKey:
    """A data key encrypted to a public key (docs/formats.md). `public_key_fingerprint` is the SHA-256 of its DER;
    `ciphertext`, where the data key was made now, is the same data key under the key."""

    exported_key: bytes
    key_version: str
    public_key_fingerprint: bytes
    algorithm: str
    event_id: str
    ciphertext: bytes = b""


@dataclass(frozen=True, slots=True)
class DataKeyPair:
    """A fresh key pair. `private_key` is PKCS#8 in DER, empty where it was not asked for, and not in the `repr`;
    `private_key_ciphertext` is what `decrypt` opens; `public_key` is SubjectPublicKeyInfo in DER."""

    private_key: bytes = field(repr=False)
    private_key_ciphertext: bytes
    public_key: bytes
    key: str
    key_version: str
    event_id: str


class DataKeyCalls(CryptographyCalls):
    """Methods that make and export data keys. `key` is as for `encrypt`."""

    def batch_generate_data_key(
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
            key=self.names.key(key),
            count=count,
            number_of_bytes=byte_count,
            encryption_context=context or {},
            without_plaintext=without_plaintext,
        )
        answer = self._crypto.call(self._crypto.stub.BatchGenerateDataKey, request, timeout)
        response, event_id = answer.response, answer.event_id
        outcomes = tuple(
            item_error(outcome.error, event_id)
            if outcome.HasField("error")
            else DataKey(
                outcome.data_key.plaintext,
                outcome.data_key.ciphertext,
                response.key,
                response.key_version,
                event_id,
            )
            for outcome in response.outcomes
        )
        return Batch(outcomes, event_id)

    def export_data_key(
        self,
        ciphertext: bytes,
        public_key: bytes,
        context: Context = None,
        *,
        algorithm: str = "",
        timeout: float | None = None,
    ) -> ExportedDataKey:
        """Encrypts a data key anew, to an RSA, EC or ML-KEM public key in PEM or DER. Raises PUBLIC_KEY_INVALID."""
        request = pb.ExportDataKeyRequest(
            ciphertext=ciphertext,
            encryption_context=context or {},
            target=pb.ExportTarget(public_key=public_key, algorithm=algorithm_number(algorithm)),
        )
        answer = self._crypto.call(self._crypto.stub.ExportDataKey, request, timeout)
        response = answer.response
        return ExportedDataKey(
            response.exported_key,
            response.key_version,
            response.public_key_fingerprint,
            algorithm_text(response.algorithm),
            answer.event_id,
        )

    def generate_and_export_data_key(
        self,
        key: str,
        public_key: bytes,
        context: Context = None,
        *,
        byte_count: int = 32,
        algorithm: str = "",
        timeout: float | None = None,
    ) -> ExportedDataKey:
        """Makes a data key and answers it encrypted under `key` and to a public key, never in the clear."""
        request = pb.GenerateAndExportDataKeyRequest(
            key=self.names.key(key),
            number_of_bytes=byte_count,
            encryption_context=context or {},
            target=pb.ExportTarget(public_key=public_key, algorithm=algorithm_number(algorithm)),
        )
        answer = self._crypto.call(self._crypto.stub.GenerateAndExportDataKey, request, timeout)
        response = answer.response
        return ExportedDataKey(
            response.exported_key,
            response.key_version,
            response.public_key_fingerprint,
            algorithm_text(response.algorithm),
            answer.event_id,
            response.ciphertext,
        )

    def generate_data_key_pair(
        self, key: str, spec: str, context: Context = None, *, timeout: float | None = None
    ) -> DataKeyPair:
        """Makes a key pair of an asymmetric spec (`EC_P256`), its private key in the clear and encrypted."""
        request = pb.GenerateDataKeyPairRequest(
            key=self.names.key(key), spec=_spec(spec), encryption_context=context or {}
        )
        answer = self._crypto.call(self._crypto.stub.GenerateDataKeyPair, request, timeout)
        response = answer.response
        return DataKeyPair(
            response.private_key,
            response.private_key_ciphertext,
            response.public_key,
            response.key,
            response.key_version,
            answer.event_id,
        )

    def generate_data_key_pair_without_plaintext(
        self, key: str, spec: str, context: Context = None, *, timeout: float | None = None
    ) -> DataKeyPair:
        """The same with the private key encrypted alone."""
        request = pb.GenerateDataKeyPairWithoutPlaintextRequest(
            key=self.names.key(key), spec=_spec(spec), encryption_context=context or {}
        )
        answer = self._crypto.call(self._crypto.stub.GenerateDataKeyPairWithoutPlaintext, request, timeout)
        response = answer.response
        return DataKeyPair(
            b"",
            response.private_key_ciphertext,
            response.public_key,
            response.key,
            response.key_version,
            answer.event_id,
        )


def _spec(name: str) -> key_pb2.KeySpec.ValueType:
    return enum_number(key_pb2.KeySpec, "KEY_SPEC_", name, "spec")
