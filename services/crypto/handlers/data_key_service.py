"""Handlers of data keys and data key pairs."""

from __future__ import annotations

from services.crypto.keys.generation import Generation
from services.crypto.keys.key_uses import KeyUses
from services.crypto.operations import data_keys, exports
from services.crypto.operations.encryption import Encryption
from services.crypto.primitives import ciphertexts, private_keys
from services.runtime import encryption_context
from services.runtime.call import Call
from services.runtime.errors import required
from services.runtime.requests import checksums
from strongroom.crypto.v1 import crypto_pb2 as pb


class DataKeyHandlers:
    """The methods of CryptoService about data keys and data key pairs."""

    def __init__(self, uses: KeyUses, generation: Generation) -> None:
        self._encryption = Encryption(uses)
        self._generation = generation

    def GenerateDataKey(self, request: pb.GenerateDataKeyRequest, call: Call) -> pb.GenerateDataKeyResponse:
        """A data key in plaintext, and encrypted under the key."""
        size = data_keys.check_size(request.number_of_bytes)
        context = encryption_context.of(request.encryption_context)
        encryptor = self._encryption.encryptor(call, "crypto:GenerateDataKey", request.key, context)
        plaintext, ciphertext = data_keys.generate(encryptor, size)
        return pb.GenerateDataKeyResponse(
            plaintext=plaintext,
            ciphertext=ciphertext,
            key=encryptor.use.key_name,
            key_version=encryptor.use.version_name,
            plaintext_crc32c=checksums.crc32c(plaintext),
            ciphertext_crc32c=checksums.crc32c(ciphertext),
        )

    def GenerateDataKeyWithoutPlaintext(
        self, request: pb.GenerateDataKeyWithoutPlaintextRequest, call: Call
    ) -> pb.GenerateDataKeyWithoutPlaintextResponse:
        """A data key encrypted under the key, for whoever will need it later."""
        size = data_keys.check_size(request.number_of_bytes)
        context = encryption_context.of(request.encryption_context)
        encryptor = self._encryption.encryptor(call, "crypto:GenerateDataKeyWithoutPlaintext", request.key, context)
        _, ciphertext = data_keys.generate(encryptor, size)
        return pb.GenerateDataKeyWithoutPlaintextResponse(
            ciphertext=ciphertext,
            key=encryptor.use.key_name,
            key_version=encryptor.use.version_name,
            ciphertext_crc32c=checksums.crc32c(ciphertext),
        )

    def BatchGenerateDataKey(
        self, request: pb.BatchGenerateDataKeyRequest, call: Call
    ) -> pb.BatchGenerateDataKeyResponse:
        """Many data keys under one key and context."""
        count = data_keys.check_count(request.count)
        size = data_keys.check_size(request.number_of_bytes)
        context = encryption_context.of(request.encryption_context)
        encryptor = self._encryption.encryptor(call, "crypto:GenerateDataKey", request.key, context)
        encryptor.use.event.item_count = count
        response = pb.BatchGenerateDataKeyResponse(key=encryptor.use.key_name, key_version=encryptor.use.version_name)
        for plaintext, ciphertext in data_keys.generate_all(encryptor, size, count):
            shown = b"" if request.without_plaintext else plaintext
            response.outcomes.add(data_key=pb.DataKey(plaintext=shown, ciphertext=ciphertext))
        return response

    def ExportDataKey(self, request: pb.ExportDataKeyRequest, call: Call) -> pb.ExportDataKeyResponse:
        """A data key, encrypted anew to a public key of the caller's choice."""
        if not request.ciphertext:
            raise required("ciphertext")
        ciphertext = ciphertexts.parse(request.ciphertext)
        context = encryption_context.of(request.encryption_context)
        decryptor = self._encryption.decryptor(call, "crypto:ExportDataKey", ciphertext, context)
        target = exports.read_target(request.target)
        return pb.ExportDataKeyResponse(
            exported_key=target.encrypt(decryptor.decrypt(ciphertext), "ciphertext"),
            key_version=decryptor.use.version_name,
            public_key_fingerprint=target.fingerprint,
            algorithm=target.algorithm,
        )

    def GenerateAndExportDataKey(
        self, request: pb.GenerateAndExportDataKeyRequest, call: Call
    ) -> pb.GenerateAndExportDataKeyResponse:
        """A data key, encrypted under the key and to a public key."""
        context = encryption_context.of(request.encryption_context)
        encryptor = self._encryption.encryptor(call, "crypto:GenerateAndExportDataKey", request.key, context)
        target = exports.read_target(request.target)
        size = data_keys.check_size(request.number_of_bytes, target.limit)
        plaintext, ciphertext = data_keys.generate(encryptor, size)
        return pb.GenerateAndExportDataKeyResponse(
            ciphertext=ciphertext,
            exported_key=target.encrypt(plaintext, "number_of_bytes"),
            key=encryptor.use.key_name,
            key_version=encryptor.use.version_name,
            public_key_fingerprint=target.fingerprint,
            algorithm=target.algorithm,
        )

    def GenerateDataKeyPair(self, request: pb.GenerateDataKeyPairRequest, call: Call) -> pb.GenerateDataKeyPairResponse:
        """A key pair, its private key in plaintext and encrypted under the key."""
        spec = data_keys.check_pair_spec(request.spec)
        context = encryption_context.of(request.encryption_context)
        encryptor = self._encryption.encryptor(call, "crypto:GenerateDataKeyPair", request.key, context)
        private_key = self._generation.made(lambda: private_keys.generate(spec), call, call.principal.account, spec)
        return pb.GenerateDataKeyPairResponse(
            private_key=private_key,
            private_key_ciphertext=encryptor.encrypt(private_key),
            public_key=private_keys.public_key(spec, private_key),
            key=encryptor.use.key_name,
            key_version=encryptor.use.version_name,
        )

    def GenerateDataKeyPairWithoutPlaintext(
        self, request: pb.GenerateDataKeyPairWithoutPlaintextRequest, call: Call
    ) -> pb.GenerateDataKeyPairWithoutPlaintextResponse:
        """A key pair, its private key encrypted under the key alone."""
        spec = data_keys.check_pair_spec(request.spec)
        context = encryption_context.of(request.encryption_context)
        encryptor = self._encryption.encryptor(call, "crypto:GenerateDataKeyPairWithoutPlaintext", request.key, context)
        private_key = self._generation.made(lambda: private_keys.generate(spec), call, call.principal.account, spec)
        return pb.GenerateDataKeyPairWithoutPlaintextResponse(
            private_key_ciphertext=encryptor.encrypt(private_key),
            public_key=private_keys.public_key(spec, private_key),
            key=encryptor.use.key_name,
            key_version=encryptor.use.version_name,
        )
