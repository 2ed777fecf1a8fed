"""Handlers of symmetric encryption: each reads its request, calls the domain, writes its response."""

from __future__ import annotations

from services.crypto.keys.key_uses import KeyUses
from services.crypto.operations import batches, re_encryption
from services.crypto.operations.encryption import Encryption, check_plaintext
from services.crypto.primitives import ciphertexts
from services.crypto.provider import Provider
from services.runtime import encryption_context
from services.runtime.access.authorization import Authorizer, account_resource
from services.runtime.call import Call
from services.runtime.errors import invalid, required
from services.runtime.requests import checksums
from strongroom.crypto.v1 import crypto_pb2 as pb

_MAX_RANDOM_BYTES = 1024
_DEFAULT_RANDOM_BYTES = 32


class EncryptionHandlers:
    """The methods of CryptoService about symmetric encryption, and random bytes."""

    def __init__(self, uses: KeyUses, authorizer: Authorizer, provider: Provider) -> None:
        self._uses = uses
        self._encryption = Encryption(uses)
        self._authorizer = authorizer
        self._provider = provider

    def Encrypt(self, request: pb.EncryptRequest, call: Call) -> pb.EncryptResponse:
        """A ciphertext of at most 64 KiB under the key's primary version."""
        plaintext = check_plaintext(request.plaintext)
        checksums.verify_given(request, "plaintext_crc32c", plaintext)
        context = encryption_context.of(request.encryption_context)
        encryptor = self._encryption.encryptor(call, "crypto:Encrypt", request.key, context)
        ciphertext = encryptor.encrypt(plaintext)
        return pb.EncryptResponse(
            ciphertext=ciphertext,
            key=encryptor.use.key_name,
            key_version=encryptor.use.version_name,
            algorithm=encryptor.algorithm,
            ciphertext_crc32c=checksums.crc32c(ciphertext),
        )

    def Decrypt(self, request: pb.DecryptRequest, call: Call) -> pb.DecryptResponse:
        """The plaintext of a ciphertext, which itself says what it is under."""
        if not request.ciphertext:
            raise required("ciphertext")
        checksums.verify_given(request, "ciphertext_crc32c", request.ciphertext)
        ciphertext = ciphertexts.parse(request.ciphertext)
        context = encryption_context.of(request.encryption_context)
        decryptor = self._encryption.decryptor(call, "crypto:Decrypt", ciphertext, context, request.key)
        plaintext = decryptor.decrypt(ciphertext)
        return pb.DecryptResponse(
            plaintext=plaintext,
            key=decryptor.use.key_name,
            key_version=decryptor.use.version_name,
            algorithm=decryptor.algorithm,
            plaintext_crc32c=checksums.crc32c(plaintext),
        )

    def ReEncrypt(self, request: pb.ReEncryptRequest, call: Call) -> pb.ReEncryptResponse:
        """A ciphertext under another key or context, without its plaintext leaving the service."""
        if not request.ciphertext:
            raise required("ciphertext")
        checksums.verify_given(request, "ciphertext_crc32c", request.ciphertext)
        source = re_encryption.source(self._uses, self._encryption, call, request)
        context = encryption_context.of(request.destination_encryption_context, "destination_encryption_context")
        encryptor = self._encryption.encryptor(
            call, "crypto:ReEncryptTo", request.destination_key, context, "destination_key"
        )
        ciphertext = encryptor.encrypt(check_plaintext(source.decrypt()))
        return pb.ReEncryptResponse(
            ciphertext=ciphertext,
            source_key_version=source.version_name,
            key=encryptor.use.key_name,
            key_version=encryptor.use.version_name,
            algorithm=encryptor.algorithm,
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
