"""`CryptoService`: reads requests, calls the domain, writes responses."""

from __future__ import annotations

from services.crypto import batches, ciphertexts, data_keys
from services.crypto.encryption import Encryption, check_plaintext
from services.crypto.providers.provider import Provider
from services.runtime import checksums
from services.runtime.authorization import Authorizer, account_resource
from services.runtime.call import Call
from services.runtime.errors import invalid, required
from strongroom.crypto.v1 import crypto_pb2 as pb

_MAX_RANDOM_BYTES = 1024
_DEFAULT_RANDOM_BYTES = 32


class CryptoService:
    """Handlers of the public service."""

    def __init__(self, encryption: Encryption, authorizer: Authorizer, provider: Provider) -> None:
        self._encryption = encryption
        self._authorizer = authorizer
        self._provider = provider

    def Encrypt(self, request: pb.EncryptRequest, call: Call) -> pb.EncryptResponse:
        """A ciphertext of at most 64 KiB under the key's primary version."""
        plaintext = check_plaintext(request.plaintext)
        if request.HasField("plaintext_crc32c"):
            checksums.verify(plaintext, request.plaintext_crc32c, "plaintext_crc32c")
        encryptor = self._encryption.encryptor(call, "crypto:Encrypt", request.key, request.encryption_context)
        ciphertext = encryptor.encrypt(plaintext)
        return pb.EncryptResponse(
            ciphertext=ciphertext,
            key=encryptor.key_name,
            key_version=encryptor.version_name,
            algorithm=encryptor.algorithm,
            ciphertext_crc32c=checksums.crc32c(ciphertext),
        )

    def Decrypt(self, request: pb.DecryptRequest, call: Call) -> pb.DecryptResponse:
        """The plaintext of a ciphertext, which itself says what it is under."""
        if not request.ciphertext:
            raise required("ciphertext")
        if request.HasField("ciphertext_crc32c"):
            checksums.verify(request.ciphertext, request.ciphertext_crc32c, "ciphertext_crc32c")
        ciphertext = ciphertexts.parse(request.ciphertext)
        decryptor = self._encryption.decryptor(
            call, "crypto:Decrypt", ciphertext, request.encryption_context, request.key
        )
        plaintext = decryptor.decrypt(ciphertext)
        return pb.DecryptResponse(
            plaintext=plaintext,
            key=decryptor.key_name,
            key_version=decryptor.version_name,
            algorithm=decryptor.algorithm,
            plaintext_crc32c=checksums.crc32c(plaintext),
        )

    def GenerateDataKey(self, request: pb.GenerateDataKeyRequest, call: Call) -> pb.GenerateDataKeyResponse:
        """A data key in plaintext, and encrypted under the key."""
        size = data_keys.check_size(request.number_of_bytes)
        encryptor = self._encryption.encryptor(call, "crypto:GenerateDataKey", request.key, request.encryption_context)
        plaintext, ciphertext = data_keys.generate(encryptor, size)
        return pb.GenerateDataKeyResponse(
            plaintext=plaintext,
            ciphertext=ciphertext,
            key=encryptor.key_name,
            key_version=encryptor.version_name,
            plaintext_crc32c=checksums.crc32c(plaintext),
            ciphertext_crc32c=checksums.crc32c(ciphertext),
        )

    def GenerateDataKeyWithoutPlaintext(
        self, request: pb.GenerateDataKeyWithoutPlaintextRequest, call: Call
    ) -> pb.GenerateDataKeyWithoutPlaintextResponse:
        """A data key encrypted under the key, for whoever will need it later."""
        size = data_keys.check_size(request.number_of_bytes)
        encryptor = self._encryption.encryptor(
            call, "crypto:GenerateDataKeyWithoutPlaintext", request.key, request.encryption_context
        )
        _, ciphertext = data_keys.generate(encryptor, size)
        return pb.GenerateDataKeyWithoutPlaintextResponse(
            ciphertext=ciphertext,
            key=encryptor.key_name,
            key_version=encryptor.version_name,
            ciphertext_crc32c=checksums.crc32c(ciphertext),
        )

    def GenerateRandom(self, request: pb.GenerateRandomRequest, call: Call) -> pb.GenerateRandomResponse:
        """Random bytes from the provider."""
        size = request.number_of_bytes or _DEFAULT_RANDOM_BYTES
        if size > _MAX_RANDOM_BYTES:
            raise invalid("number_of_bytes", f"is more than {_MAX_RANDOM_BYTES}")
        self._authorizer.authorize(call, "crypto:GenerateRandom", account_resource(call.principal.account))
        data = self._provider.random(size)
        return pb.GenerateRandomResponse(data=data, data_crc32c=checksums.crc32c(data))

    def BatchEncrypt(self, request: pb.BatchEncryptRequest, call: Call) -> pb.BatchEncryptResponse:
        """An outcome for each plaintext, under one key version."""
        return batches.encrypt(self._encryption, call, request)

    def BatchDecrypt(self, request: pb.BatchDecryptRequest, call: Call) -> pb.BatchDecryptResponse:
        """An outcome for each ciphertext, whatever keys they are under."""
        return batches.decrypt(self._encryption, call, request)
